/** `lutra chat`: a conversation in the terminal, or one answer for each line of a file. */
import { writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { Command } from 'commander';
import { FileAccessError, LutraError } from '../errors.js';
import type { ChatMessage, Generation, Model } from '../index.js';
import { describeError, INTERRUPTED } from './exit.js';
import { addInstructOptions, opening, type InstructOptions } from './instruct.js';
import { addModelOptions, load, MODEL, modelPath, type ModelOptions } from './options.js';
import { addSamplingOptions, sampling, speed, type SamplingOptions } from './sampling.js';
import { faint, printJson, say } from './terminal.js';

interface ChatOptions extends ModelOptions, SamplingOptions, InstructOptions {}

const HELP = `/reset         forget what was said
/system TEXT   begin again, with this as the system's message; without TEXT: with none
/save FILE     write the conversation to a file, as JSON
/help          this list
Ctrl-C stops an answer; Ctrl-D, or Ctrl-C twice, ends.`;

export function chatCommand(): Command {
  const command = new Command('chat')
    .description('Talks with a model. /help lists what can be typed besides messages; piped input is one message a line.')
    .argument('[model]', MODEL);
  addModelOptions(addInstructOptions(addSamplingOptions(command)))
    .addHelpText('after', '\nExample:\n  lutra chat hf:HuggingFaceTB/SmolLM2-360M-Instruct --bits 4');
  return command.action(async (argument: string | undefined, options: ChatOptions) => {
    const path = modelPath(command, argument, options);
    await using model = await load(path, options);
    await new Chat(model, options, await opening(model, options.system)).run();
  });
}

class Chat {
  readonly #isTerminal = Boolean(process.stdin.isTTY && process.stderr.isTTY);
  #messages: ChatMessage[];
  #answer: Generation | undefined;
  /** Ctrl-C was the last thing typed. */
  #leaving = false;

  constructor(private readonly model: Model, private readonly options: ChatOptions, private begin: readonly ChatMessage[]) {
    this.#messages = [...begin];
  }

  async run(): Promise<void> {
    const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: this.#isTerminal, prompt: this.#isTerminal ? '> ' : '' });
    // Input that is piped ends before its lines are answered, and newer versions of Node ask nothing of what is closed.
    let isOpen = true;
    lines.once('close', () => { isOpen = false; });
    const prompt = () => { if (isOpen) lines.prompt(); };
    const interrupt = () => {
      if (this.#answer) return this.#answer.cancel();
      if (!this.#isTerminal || this.#leaving) {
        process.exitCode = INTERRUPTED;
        return lines.close();
      }
      this.#leaving = true;
      say(faint('\nCtrl-C once more, or Ctrl-D, ends.'));
      prompt();
    };
    // A terminal in raw mode hands Ctrl-C to its reader.
    lines.on('SIGINT', interrupt);
    process.on('SIGINT', interrupt);
    try {
      if (this.#isTerminal) say(faint('Ctrl-C stops an answer, Ctrl-D ends, /help lists more.'));
      prompt();
      for await (const line of lines) {
        this.#leaving = false;
        await this.#take(line.trim());
        prompt();
      }
    } finally {
      process.off('SIGINT', interrupt);
      lines.close();
    }
  }

  async #take(line: string): Promise<void> {
    try {
      const [, command, rest = ''] = /^\/(\w+)\s*(.*)$/.exec(line) ?? [];
      if (command !== undefined) await this.#obey(command, rest);
      else if (line !== '') await this.#say(line);
    } catch (error) {
      // At a terminal people try again; a script wants to know.
      if (!this.#isTerminal || !(error instanceof LutraError)) throw error;
      say(describeError(error).trimEnd());
    }
  }

  async #obey(command: string, rest: string): Promise<void> {
    if (command === 'help') return say(HELP);
    if (command === 'save') return this.#save(rest);
    if (command === 'system') this.begin = rest === '' ? [] : [{ role: 'system', content: rest }];
    else if (command !== 'reset') return say(`/${command} is not known.\n${HELP}`);
    this.#messages = [...this.begin];
    say(faint('A new conversation.'));
  }

  async #say(content: string): Promise<void> {
    const messages = [...this.#messages, { role: 'user', content }], { json } = this.options;
    this.#answer = this.model.chat(messages, { ...sampling(this.options), overflow: 'drop-oldest' });
    try {
      if (!json) {
        for await (const { text } of this.#answer) process.stdout.write(text);
        process.stdout.write('\n');
      }
      const result = await this.#answer.result;
      this.#messages = [...messages, { role: 'assistant', content: result.text }];
      if (json) return printJson(result);
      if (result.droppedMessages) say(faint(`The first ${result.droppedMessages} messages no longer fit and were left out.`));
      if (this.#isTerminal) say(speed(this.model, result));
    } finally {
      this.#answer = undefined;
    }
  }

  async #save(path: string): Promise<void> {
    if (path === '') return say('Where to? /save FILE');
    await writeFile(path, `${JSON.stringify(this.#messages, null, 2)}\n`).catch((cause: Error) => {
      throw new FileAccessError(path, cause.message, 'Check that you may write there.', { cause });
    });
    say(faint(`${this.#messages.length} messages are in ${path}.`));
  }
}

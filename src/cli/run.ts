/** `lutra run`: text from a model, as it is written. */
import { Command } from 'commander';
import type { Generation, GenerationResult, Model } from '../index.js';
import { INTERRUPTED } from './exit.js';
import { addInstructOptions, opening, type InstructOptions } from './instruct.js';
import { addModelOptions, embeddedModel, load, MODEL, modelPath, type ModelOptions } from './options.js';
import { addSamplingOptions, sampling, speed, type SamplingOptions } from './sampling.js';
import { faint, interrupt, printJson, say } from './terminal.js';

interface RunOptions extends ModelOptions, SamplingOptions, InstructOptions {
  prompt: string;
  raw?: true;
  displayPrompt: boolean;
}

export function runCommand(): Command {
  const command = new Command('run')
    .description('Continues a prompt, or answers it where the model was trained for chats. Without a model: the one that comes with the package.')
    .argument('[model]', MODEL)
    .option('-p, --prompt <text>', 'what to continue, or to answer', '')
    .option('--raw', 'continue the prompt as it is, without the model\'s chat template')
    .option('--no-display-prompt', 'print the answer only')
    .addHelpText('after', '\nExample:\n  lutra run stories.lutra.safetensors -p "One day, a dragon" -n 100 --temp 0.5');
  addModelOptions(addInstructOptions(addSamplingOptions(command)));
  return command.action(async (argument: string | undefined, options: RunOptions) => {
    const path = modelPath(command, argument, options, embeddedModel());
    await using model = await load(path, options);
    const result = await answer(model, options);
    if (options.json) printJson(summary(model, result));
    else say(closing(model, result));
    if (interrupt().aborted) process.exitCode = INTERRUPTED;
  });
}

async function answer(model: Model, options: RunOptions): Promise<GenerationResult> {
  const isChat = model.info().chatTemplate && !options.raw && options.prompt !== '';
  const generation = await start(model, isChat, options);
  const stop = () => generation.cancel();
  interrupt().addEventListener('abort', stop);
  if (options.json) return generation.result;
  // Not before the prompt has proved good.
  let before = options.displayPrompt && !isChat ? options.prompt : '';
  for await (const { text } of generation) {
    process.stdout.write(before + text);
    before = '';
  }
  process.stdout.write(`${before}\n`);
  return generation.result;
}

async function start(model: Model, isChat: boolean, options: RunOptions): Promise<Generation> {
  const { prompt, system, json } = options, how = { ...sampling(options), hashLogits: json === true };
  return isChat ? model.chat([...await opening(model, system), { role: 'user', content: prompt }], how) : model.generate(prompt, how);
}

function summary(model: Model, { text, promptIds, ids, finishReason, promptTokens, completionTokens, timings, logitsHash, seed }: GenerationResult): object {
  const { prefillTokensPerSecond, decodeTokensPerSecond } = timings;
  return {
    text, promptIds, ids, finishReason, promptTokens, completionTokens, prefillTokensPerSecond, decodeTokensPerSecond, logitsHash, seed,
    info: model.info(),
  };
}

function closing(model: Model, result: GenerationResult): string {
  return `\n${speed(model, result)}\n${faint(`The same text again: add -s ${result.seed}. Your own: -p "…". All options: lutra run --help`)}`;
}

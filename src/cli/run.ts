/** `lutra run`: text from a model, as it is written. */
import { Command, InvalidArgumentError } from 'commander';
import type { GenerateOptions, GenerationResult, Model } from '../index.js';
import { INTERRUPTED } from './exit.js';
import { addModelOptions, decimal, embeddedModel, load, modelPath, wholeNumber, type ModelOptions } from './options.js';
import { faint, interrupt, printJson, say } from './terminal.js';

interface RunOptions extends ModelOptions {
  prompt: string;
  predict: number;
  seed?: bigint;
  temp?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repeatPenalty?: number;
  displayPrompt: boolean;
}

export function runCommand(): Command {
  const command = new Command('run')
    .description('Continues a prompt. Without a model: the one that comes with the package.')
    .argument('[model]', 'a packed model, or one that can be packed while it is loaded')
    .option('-p, --prompt <text>', 'what to continue', '')
    .option('-n, --predict <n>', 'tokens to write at most; -1: until the context is full', wholeNumber(-1), -1)
    .option('-c, --ctx-size <n>', 'tokens of prompt and answer together (default: the model\'s, at most 2048)', wholeNumber(2))
    .option('-s, --seed <n>', 'same seed, same text (default: random)', seed)
    .option('--temp <t>', 'temperature, 0: always the likeliest token (default: 0.8)', decimal)
    .option('--top-k <n>', 'draw from the n likeliest tokens, 0: from all (default: 40)', wholeNumber(0))
    .option('--top-p <p>', 'draw from the likeliest tokens that hold this share (default: 0.95)', decimal)
    .option('--min-p <p>', 'drop tokens below this share of the likeliest (default: 0.05)', decimal)
    .option('--repeat-penalty <x>', 'divide the scores of the last 64 tokens (default: 1)', decimal)
    .option('--no-display-prompt', 'print the answer only')
    .addHelpText('after', '\nExample:\n  lutra run stories.lutra.safetensors -p "One day, a dragon" -n 100 --temp 0.5');
  return addModelOptions(command).action(async (argument: string | undefined, options: RunOptions) => {
    const path = modelPath(command, argument, options, embeddedModel());
    await using model = await load(path, options);
    const result = await answer(model, options);
    if (options.json) printJson(summary(model, result));
    else say(closing(model, result));
    if (interrupt().aborted) process.exitCode = INTERRUPTED;
  });
}

/** As with llama.cpp, -1 is random. */
function seed(text: string): bigint | undefined {
  if (!/^(-1|\d+)$/.test(text)) throw new InvalidArgumentError('Not a whole number.');
  return text === '-1' ? undefined : BigInt(text);
}

async function answer(model: Model, options: RunOptions): Promise<GenerationResult> {
  const generation = model.generate(options.prompt, sampling(options));
  const stop = () => generation.cancel();
  interrupt().addEventListener('abort', stop);
  if (options.json) return generation.result;
  // Not before the prompt has proved good.
  let before = options.displayPrompt ? options.prompt : '';
  for await (const { text } of generation) {
    process.stdout.write(before + text);
    before = '';
  }
  process.stdout.write(`${before}\n`);
  return generation.result;
}

function sampling({ predict, seed, temp, topK, topP, minP, repeatPenalty, json }: RunOptions): GenerateOptions {
  return {
    ...(predict >= 0 && { maxTokens: predict }),
    ...(seed !== undefined && { seed }),
    ...(temp !== undefined && { temperature: temp }),
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
    ...(minP !== undefined && { minP }),
    ...(repeatPenalty !== undefined && { repetitionPenalty: repeatPenalty }),
    hashLogits: json === true,
  };
}

function summary(model: Model, { text, promptIds, ids, finishReason, promptTokens, completionTokens, timings, logitsHash, seed }: GenerationResult): object {
  const { prefillTokensPerSecond, decodeTokensPerSecond } = timings;
  return {
    text, promptIds, ids, finishReason, promptTokens, completionTokens, prefillTokensPerSecond, decodeTokensPerSecond, logitsHash, seed,
    info: model.info(),
  };
}

function closing(model: Model, { completionTokens, promptTokens, timings, seed }: GenerationResult): string {
  const { threads, wasm } = model.info();
  return [
    '',
    `${completionTokens} tokens at ${timings.decodeTokensPerSecond.toFixed(1)} tokens/s`
      + faint(` (prompt: ${promptTokens} at ${timings.prefillTokensPerSecond.toFixed(1)}; ${threads} thread${threads === 1 ? '' : 's'}, ${wasm})`),
    faint(`The same text again: add -s ${seed}. Your own: -p "…". All options: lutra run --help`),
  ].join('\n');
}

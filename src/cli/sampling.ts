/** Options of the commands that write text. */
import { type Command, InvalidArgumentError } from 'commander';
import type { GenerateOptions, GenerationResult, Model } from '../index.js';
import { decimal, wholeNumber } from './options.js';
import { faint } from './terminal.js';

export interface SamplingOptions {
  predict: number;
  seed?: bigint;
  temp?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repeatPenalty?: number;
}

export function addSamplingOptions(command: Command): Command {
  return command
    .option('-n, --predict <n>', 'tokens to write at most; -1: until the context is full', wholeNumber(-1), -1)
    .option('-c, --ctx-size <n>', 'tokens of prompt and answer together (default: the model\'s, at most 2048)', wholeNumber(2))
    .option('-s, --seed <n>', 'same seed, same text (default: random)', seed)
    .option('--temp <t>', 'temperature, 0: always the likeliest token (default: 0.8)', decimal)
    .option('--top-k <n>', 'draw from the n likeliest tokens, 0: from all (default: 40)', wholeNumber(0))
    .option('--top-p <p>', 'draw from the likeliest tokens that hold this share (default: 0.95)', decimal)
    .option('--min-p <p>', 'drop tokens below this share of the likeliest (default: 0.05)', decimal)
    .option('--repeat-penalty <x>', 'divide the scores of the last 64 tokens (default: 1)', decimal);
}

/** As with llama.cpp, -1 is random. */
function seed(text: string): bigint | undefined {
  if (!/^(-1|\d+)$/.test(text)) throw new InvalidArgumentError('Not a whole number.');
  return text === '-1' ? undefined : BigInt(text);
}

export function sampling({ predict, seed, temp, topK, topP, minP, repeatPenalty }: SamplingOptions): GenerateOptions {
  return {
    ...(predict >= 0 && { maxTokens: predict }),
    ...(seed !== undefined && { seed }),
    ...(temp !== undefined && { temperature: temp }),
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
    ...(minP !== undefined && { minP }),
    ...(repeatPenalty !== undefined && { repetitionPenalty: repeatPenalty }),
  };
}

/** One line about an answer. */
export function speed(model: Model, { completionTokens, promptTokens, cachedTokens, timings }: GenerationResult): string {
  const { threads, wasm } = model.info();
  return `${completionTokens} tokens at ${timings.decodeTokensPerSecond.toFixed(1)} tokens/s`
    + faint(` (prompt: ${promptTokens}${cachedTokens > 0 ? `, ${cachedTokens} of them computed before,` : ''} at ${timings.prefillTokensPerSecond.toFixed(1)};`
      + ` ${threads} thread${threads === 1 ? '' : 's'}, ${wasm})`);
}

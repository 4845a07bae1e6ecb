/** Defaults and ranges of the options that callers give. */
import type { SamplingOptions } from '../engine/types.js';
import { BadArgumentError } from '../errors.js';
import type { WireGenerateOptions } from './types.js';

/** Tokens of a session, where the model knows as many and nobody asks for another number. */
export const DEFAULT_CONTEXT = 2048;

/** Tokens the repetition penalty looks back at. */
export const PENALTY_WINDOW = 64;

export interface GenerationPlan {
  maxTokens: number;
  sampling: SamplingOptions;
  stop: readonly string[];
  hashLogits: boolean;
}

/** @throws BadArgumentError */
export function planGeneration(options: WireGenerateOptions): GenerationPlan {
  const { maxTokens = Infinity, stop = [], hashLogits = false, seed = randomSeed() } = options;
  const { temperature = 0.8, topK = 40, topP = 0.95, minP = 0.05, repetitionPenalty = 1 } = options;
  if (maxTokens !== Infinity) whole('maxTokens', maxTokens, 1);
  inRange('temperature', temperature, 0, 100);
  whole('topK', topK, 0);
  inRange('topP', topP, 0, 1);
  inRange('minP', minP, 0, 1);
  inRange('repetitionPenalty', repetitionPenalty, 0.01, 100);
  if (typeof seed !== 'bigint') whole('seed', seed, 0);
  if (!Array.isArray(stop) || stop.some(text => typeof text !== 'string' || text === '')) {
    throw new BadArgumentError('stop', 'is not a list of non-empty strings', 'Example: stop: ["\\n\\n"].');
  }
  return {
    maxTokens, stop, hashLogits,
    sampling: { temperature, topK, topP, minP, repetitionPenalty, seed: BigInt.asUintN(64, BigInt(seed)) },
  };
}

/** Short enough to be typed again. */
function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]!;
}

/** A whole number from `least` to `most`. */
export function whole(argument: string, value: number, least: number, most = Number.MAX_SAFE_INTEGER): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new BadArgumentError(argument, `${String(value)} is out of range`,
    most === Number.MAX_SAFE_INTEGER ? `Give a whole number, at least ${least}.` : `Give a whole number from ${least} to ${most}.`);
}

function inRange(argument: string, value: number, least: number, most: number): void {
  if (typeof value === 'number' && value >= least && value <= most) return;
  throw new BadArgumentError(argument, `${String(value)} is out of range`, `Give a number from ${least} to ${most}.`);
}

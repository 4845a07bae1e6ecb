/** What a model's configuration may be. Bounds keep every product of sizes exact in a double. */
import { BadModelFileError, UnsupportedFormatError } from '../errors.js';
import { isObject, shown } from './bytes.js';
import type { ModelConfig, RopeScaling } from './types.js';

const SIZE_LIMIT = 2 ** 24;

const size = (value: unknown) => Number.isInteger(value) && (value as number) >= 1 && (value as number) <= SIZE_LIMIT;
const positive = (value: unknown) => Number.isFinite(value) && (value as number) > 0;
const boolean = (value: unknown) => typeof value === 'boolean';
const isId = (value: unknown) => Number.isInteger(value) && (value as number) >= 0 && (value as number) < SIZE_LIMIT;

const inRange = (low: number, high: number) => (value: unknown) => typeof value === 'number' && value >= low && value <= high;
const scalingRules: Record<RopeScaling['type'], Record<string, (value: unknown) => boolean>> = {
  linear: {},
  llama3: { originalLength: size, low: inRange(1e-3, 1e6), high: inRange(1e-3, 1e6) },
  yarn: {
    originalLength: size, low: inRange(1e-3, 1e6), high: inRange(1e-3, 1e6), truncate: boolean,
    attention: value => value === null || inRange(1e-3, 1e3)(value),
  },
};

/** Fields of this type of scaling, all of them and no others; blended between two different borders. */
function isRopeScaling(value: unknown): boolean {
  if (value === null) return true;
  if (!isObject(value) || typeof value.type !== 'string' || !Object.hasOwn(scalingRules, value.type)) return false;
  const { type, factor, ...rest } = value, fields = scalingRules[type as RopeScaling['type']];
  return inRange(1e-3, 1e6)(factor) && Object.keys(rest).every(field => Object.hasOwn(fields, field))
    && Object.entries(fields).every(([field, check]) => check(rest[field])) && (type !== 'llama3' || rest.low < rest.high);
}

const rules: Record<keyof ModelConfig, [check: (value: unknown) => boolean, expected: string]> = {
  architecture: [value => typeof value === 'string', 'a string'],
  dim: [size, `1 to ${SIZE_LIMIT}`],
  hiddenDim: [size, `1 to ${SIZE_LIMIT}`],
  nLayers: [value => size(value) && (value as number) <= 65536, '1 to 65536'],
  nHeads: [size, `1 to ${SIZE_LIMIT}`],
  nHeadsKv: [size, `1 to ${SIZE_LIMIT}`],
  headDim: [value => size(value) && (value as number) % 2 === 0, `an even number up to ${SIZE_LIMIT}`],
  vocabSize: [size, `1 to ${SIZE_LIMIT}`],
  contextLength: [size, `1 to ${SIZE_LIMIT}`],
  normEps: [positive, 'a positive number'],
  ropeTheta: [inRange(1, 1e30), '1 or more'],
  ropeScaling: [isRopeScaling, 'null or a known scaling with its numbers'],
  slidingWindow: [value => value === null || size(value), `null or 1 to ${SIZE_LIMIT}`],
  activation: [value => value === 'silu' || value === 'relu2', "'silu' or 'relu2'"],
  tiedHead: [boolean, 'true or false'],
  bosId: [value => value === null || isId(value), 'null or a token id'],
  eosIds: [value => Array.isArray(value) && value.length <= 64 && value.every(isId), 'a list of token ids'],
  addBos: [boolean, 'true or false'],
};

/** Fields that a file may leave out, and what that means. */
const defaults: Partial<ModelConfig> = { ropeScaling: null, slidingWindow: null };

/** A fresh, checked configuration; `path` is the file it came from. */
export function checkConfig(value: unknown, path: string): ModelConfig {
  if (!isObject(value)) throw new BadModelFileError(path, 'config', 'is not an object');
  const config: Record<string, unknown> = {};
  for (const [field, [check, expected]] of Object.entries(rules)) {
    const given = value[field] === undefined ? defaults[field as keyof ModelConfig] : value[field];
    if (!check(given)) throw new BadModelFileError(path, `config.${field}`, `${shown(given)} is not ${expected}`);
    config[field] = given;
  }
  for (const field of Object.keys(value)) {
    if (!Object.hasOwn(rules, field)) {
      throw new UnsupportedFormatError(path, `config.${field}`, 'this version does not know it', 'Update lutra, or pack the model with this version.');
    }
  }
  const model = config as unknown as ModelConfig;
  const relations: [field: keyof ModelConfig, holds: boolean, problem: string][] = [
    ['nHeadsKv', model.nHeads % model.nHeadsKv === 0, `${model.nHeads} heads cannot share ${model.nHeadsKv}`],
    ['headDim', model.nHeads * model.headDim <= SIZE_LIMIT, `${model.nHeads} heads of ${model.headDim} are too wide`],
    ['bosId', model.bosId === null || model.bosId < model.vocabSize, `${model.bosId} is not in a vocabulary of ${model.vocabSize}`],
    ['eosIds', model.eosIds.every(id => id < model.vocabSize), `${model.eosIds} are not all in a vocabulary of ${model.vocabSize}`],
    ['addBos', !model.addBos || model.bosId !== null, 'there is no bosId to add'],
  ];
  for (const [field, holds, problem] of relations) if (!holds) throw new BadModelFileError(path, `config.${field}`, problem);
  return model;
}

/** Texts as the sequences that an evaluation scores. */
import { BadArgumentError } from '../errors.js';
import type { Model } from '../index.js';
import { readText } from './options.js';

export const DEFAULT_WINDOW = 512;

export interface TextOptions {
  text?: string;
  documents?: string;
  ctx?: number;
  chunks?: number;
}

/** A sequence of tokens, and the first position whose prediction counts. */
export interface Sequence { ids: number[]; from: number }

export const sequencesOf = (model: Model, options: TextOptions): Promise<Sequence[]> =>
  options.text ? windows(model, options.text, options) : documents(model, options.documents!, options);

/** The protocol of llama-perplexity: no window sees another one, BOS takes the place of a window's first token if the model adds one. */
async function windows(model: Model, file: string, options: TextOptions): Promise<Sequence[]> {
  const { config, context } = model.info();
  const size = options.ctx ?? Math.min(DEFAULT_WINDOW, context);
  const ids = await model.tokenize(await readText(file));
  const count = Math.min(Math.floor(ids.length / size), options.chunks ?? Infinity);
  if (count === 0) throw new BadArgumentError('--text', `${file} has ${ids.length} tokens, a window has ${size}`, 'Give a longer text, or a smaller --ctx.');
  return Array.from({ length: count }, (_, i) => {
    const window = ids.slice(i * size, (i + 1) * size);
    if (config.addBos) window[0] = config.bosId!;
    return { ids: window, from: Math.floor(size / 2) };
  });
}

async function documents(model: Model, file: string, options: TextOptions): Promise<Sequence[]> {
  const { context } = model.info();
  const texts = parse(file, await readText(file)).slice(0, options.chunks);
  return Promise.all(texts.map(async text => ({ ids: (await model.tokenize(text, { addBos: true })).slice(0, context), from: 0 })));
}

function parse(file: string, json: string): string[] {
  const wrong = (problem: string) => new BadArgumentError('--documents', `${file} ${problem}`, 'Give a JSON file that holds an array of strings.');
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw wrong(`is not JSON: ${(error as Error).message}`);
  }
  if (!Array.isArray(value) || value.length === 0 || !value.every(text => typeof text === 'string')) throw wrong('is not an array of strings');
  return value;
}

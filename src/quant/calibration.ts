/** Token sequences that a model is calibrated with: from texts, from what it says itself, or from both. */
import { readFile } from 'node:fs/promises';
import { createEngine } from '../engine/engine.js';
import { BadArgumentError, FileAccessError } from '../errors.js';
import { readPackedHeader } from '../formats/packed.js';
import type { SourceModel } from '../formats/source.js';
import type { ModelConfig } from '../formats/types.js';
import { pack } from '../pack/pack.js';
import { MemorySink } from '../pack/sink.js';
import { bytesSource } from '../platform/platform.js';
import { Tokenizer } from '../tokenizer/tokenizer.js';

/** Tokens of a sequence, at most. */
const LENGTH = 512;
/** Sequences that are sampled at once. */
const AT_ONCE = 16;

export interface CalibrationOptions {
  /** Paths of texts, or of JSON arrays of them; 'self': what the model says at temperature 1. Each gives an equal share. */
  from: readonly string[];
  /** In all. */
  tokens: number;
  threads: number;
  signal?: AbortSignal;
  onProgress?(done: number, total: number): void;
}

/** @throws BadArgumentError when a text holds no token to predict */
export async function calibrationSequences(source: SourceModel, { from, tokens, ...rest }: CalibrationOptions): Promise<number[][]> {
  const { config } = source, share = Math.ceil(tokens / from.length), longest = Math.min(LENGTH, config.contextLength, config.slidingWindow ?? Infinity);
  const sequences: number[][] = [];
  for (const one of from) {
    const some = one === 'self' ? await sample(source, share, longest, rest) : fromText(new Tokenizer(source.tokenizerJson, config, 'tokenizer'), config, one, await read(one), longest);
    if (some.length === 0) throw new BadArgumentError('calibration', `${one} holds no text`, 'Give a longer text.');
    sequences.push(...spread(some, share));
  }
  return sequences;
}

/** Documents from their own start with BOS, or windows of one text. */
function fromText(tokenizer: Tokenizer, config: ModelConfig, file: string, text: string, longest: number): number[][] {
  if (file.endsWith('.json')) return documents(file, text).map(one => tokenizer.encode(one, { addBos: true }).slice(0, longest)).filter(ids => ids.length > 1);
  const ids = tokenizer.encode(text, { addBos: false }), bos = config.addBos ? [config.bosId!] : [], step = longest - bos.length;
  const windows = Array.from({ length: Math.max(1, Math.floor(ids.length / step)) }, (_, i) => [...bos, ...ids.slice(i * step, (i + 1) * step)]);
  return windows.filter(window => window.length > 1);
}

function documents(file: string, json: string): string[] {
  const wrong = () => new BadArgumentError('calibration', `${file} is not a JSON array of strings`, 'Give one, or a file of plain text.');
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw wrong();
  }
  if (!Array.isArray(value) || !value.every(text => typeof text === 'string')) throw wrong();
  return value;
}

/** As many as hold `tokens`, evenly from all of them. */
function spread(sequences: readonly number[][], tokens: number): number[][] {
  const total = sequences.reduce((sum, ids) => sum + ids.length, 0);
  if (total <= tokens) return [...sequences];
  const count = Math.max(1, Math.floor(sequences.length * tokens / total));
  return Array.from({ length: count }, (_, i) => sequences[Math.floor(i * sequences.length / count)]!);
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new FileAccessError(file, (cause as { code?: string }).code === 'ENOENT' ? 'no such file' : (cause as Error).message, 'Check the path.', { cause });
  }
}

/** Sequences that the model makes up at temperature 1, at 8 bits. The same every time. */
async function sample(source: SourceModel, tokens: number, longest: number, { threads, signal, onProgress }: Omit<CalibrationOptions, 'from' | 'tokens'>): Promise<number[][]> {
  const { config } = source, sink = new MemorySink(), start = config.bosId ?? config.eosIds[0] ?? 0;
  await pack(source, { bits: 8, threads, ...(signal && { signal }) }, sink);
  const file = bytesSource('(8-bit packing)', sink.bytes);
  const engine = await createEngine(file, await readPackedHeader(file), {
    threads, variant: 'auto', crew: threads > 1 ? 'shared' : 'single', context: longest, maxSessions: AT_ONCE, reference: false,
  });
  try {
    const done: number[][] = [];
    let started = 0, total = 0;
    const slots = Array.from({ length: AT_ONCE }, () => ({ session: engine.openSession(), seed: ++started, ids: [start] }));
    while (total < tokens) {
      signal?.throwIfAborted();
      await engine.forward(slots.map(({ session, ids }) => ({ session, position: ids.length - 1, token: ids.at(-1)!, wantLogits: true })), signal);
      for (const [i, slot] of slots.entries()) {
        const options = { temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: BigInt(slot.seed) };
        const token = engine.sample(i, options, slot.ids.length, []), isEnd = config.eosIds.includes(token) || token === config.bosId;
        if (!isEnd) slot.ids.push(token);
        if (!isEnd && slot.ids.length < longest) continue;
        if (slot.ids.length > 1) {
          done.push(slot.ids);
          total += slot.ids.length;
        }
        Object.assign(slot, { seed: ++started, ids: [start] });
      }
      onProgress?.(Math.min(tokens, total + slots.reduce((sum, { ids }) => sum + ids.length, 0)), tokens);
    }
    return done;
  } finally {
    await engine.dispose();
  }
}

/** What an importer makes of a foreign file: headers are read, weights are not. */
import { fresh, readBytes } from './bytes.js';
import type { PartFormat } from './packed.js';
import type { ByteSource, ChatFormat, ModelConfig } from './types.js';

/** Names in the packers' table of encodings (src/pack/encodings.ts). */
export type Encoding = 'f32' | 'f16' | 'bf16' | 'q8' | 'ternary2' | 'i2_s' | 'elutq' | BlockEncoding;

/** Small codes, groups of which have a scale and perhaps an offset: GGUF's blocks, and rows of GPTQ (gptq.ts). */
export type BlockEncoding = GgufEncoding | 'gptq2' | 'gptq3' | 'gptq4' | 'gptq4_sym' | 'gptq8_sym';
export type GgufEncoding = 'q4_0' | 'q4_1' | 'q5_0' | 'q5_1' | 'q8_0' | 'q2_k' | 'q3_k' | 'q4_k' | 'q5_k' | 'q6_k' | 'tq1_0' | 'tq2_0';

/** A run of bytes for each row of a matrix, all of one length. */
export interface RowBytes {
  file: ByteSource;
  length: number;
  /** File offset of a row's bytes. */
  offset(row: number): number;
  /** Further bytes of each row, which follow these. */
  then?: RowBytes;
}

/** A weight matrix [rows][cols] in a file. Row numbers are the packed model's: reordering is the importer's business. */
export interface SourceMatrix {
  /** For messages: the tensor's name in its file. */
  name: string;
  rows: number;
  cols: number;
  encoding: Encoding;
  codes: RowBytes;
  /** Scales, where the encoding keeps them apart (q8). */
  scales?: RowBytes;
  /** What the decoder must know of a row's place: q8: elements of its first group before it; ternary2: bit of its field. */
  phase?(row: number): number;
  /** A constant of the encoding: q8, gptq: group size; elutq: planes + 16 * group size. */
  param?: number;
  /** The format that holds codes and parameters as they are, where the encoding alone does not say it. */
  exact?: PartFormat;
  /** What the file has, for people, where `codes` are made of it. */
  stored?: { type: string; bytes: number };
  /** All weights are multiples of this (ternary2, i2_s); 1 unless given. */
  scale?: number;
}

/** A model in a foreign format. */
export interface SourceModel {
  config: ModelConfig;
  /** Text of a Hugging Face `tokenizer.json`. */
  tokenizerJson: Uint8Array;
  /** Undefined where the model has no chat template. */
  chat?: ChatFormat | undefined;
  /** By linear layer, named as in docs/format.md; q and k rows in half-split order. */
  matrices: Map<string, SourceMatrix>;
  /** Norms, biases and other vectors by name as in docs/format.md; q and k biases in half-split order. */
  vectors: Map<string, Float32Array>;
  /**
   * Level of the linear layers when nobody asks for one. 'exact': the publisher has rounded them already. 'ternary': BitNet,
   * whether its weights are trits already or become trits when they are used.
   */
  defaultBits?: 'exact' | 'ternary';
  /** Size of the files that hold weights, bytes. */
  bytes: number;
  provenance: Record<string, unknown>;
  close(): Promise<void>;
}

/** Bytes of rows [begin, begin + count) one after the other; rows that are close together in the file are read together. */
export async function readRows({ file, length, offset, then }: RowBytes, begin: number, count: number, field: string, room = fresh): Promise<Uint8Array<ArrayBuffer>> {
  if (then) {
    const first = await readRows({ file, length, offset }, begin, count, field), rest = await readRows(then, begin, count, field);
    const restLength = rest.length / count, bytes = new Uint8Array(first.length + rest.length);
    for (let r = 0, at = 0; r < count; r++, at += length + restLength) {
      bytes.set(first.subarray(r * length, (r + 1) * length), at);
      bytes.set(rest.subarray(r * restLength, (r + 1) * restLength), at + length);
    }
    return bytes;
  }
  const start = offset(begin);
  let inRow = 1;
  while (inRow < count && offset(begin + inRow) === start + length * inRow) inRow++;
  if (inRow === count) return readBytes(file, start, length * count, field, room);
  const starts = Array.from({ length: count }, (_, i) => offset(begin + i));
  const bytes = room.take(length * count);
  const first = starts.reduce((a, b) => Math.min(a, b)), end = starts.reduce((a, b) => Math.max(a, b)) + length;
  if (end - first <= 2 * bytes.length) {
    // Rows in another order: one read and many small copies.
    const span = await readBytes(file, first, end - first, field, room);
    starts.forEach((start, i) => bytes.set(span.subarray(start - first, start - first + length), length * i));
    room.give(span.buffer);
    return bytes;
  }
  for (let from = 0, to: number; from < count; from = to) {
    for (to = from + 1; to < count && starts[to] === starts[to - 1]! + length;) to++;
    bytes.set(await readBytes(file, starts[from]!, length * (to - from), field), length * from);
  }
  return bytes;
}

/** Where row `row` of a matrix in half-split order is found in one whose heads interleave pairs (llama2.c, GGUF llama). */
export function adjacentPairRow(row: number, headDim: number): number {
  const inHead = row % headDim, half = headDim / 2;
  return row - inHead + (inHead < half ? 2 * inHead : 2 * (inHead - half) + 1);
}

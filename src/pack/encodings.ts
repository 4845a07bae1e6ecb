/** Source encodings. A new one is a row in one of these tables and a function in assembly/. */
import type { PartFormat } from '../formats/packed.js';
import type { Encoding, GgufEncoding } from '../formats/source.js';

export type RowDecoder = (src: number, scales: number, dst: number, cols: number, phase: number, param: number) => void;
export type RowSplitter = (src: number, cols: number, codes: number, params: number) => void;

/** Encodings of plain values: the function that turns a row into f32 (assembly/rows.ts). */
export const rowDecoders = {
  f32: 'rowFromF32',
  f16: 'rowFromF16',
  bf16: 'rowFromBf16',
  q8: 'rowFromQ8',
  ternary2: 'rowFromTernary2',
} as const satisfies Record<Exclude<Encoding, GgufEncoding>, string>;

interface Blocks {
  /** The function that turns a row into codes, scales and zeros (assembly/gguf.ts). */
  split: string;
  /** Columns that share a scale. */
  group: number;
  /** The format that holds codes, scales and zeros as they are, where there is one. */
  exact?: PartFormat;
  /** Half precision may be too narrow for an unusual matrix: then coding 'f32' takes its place. */
  checkHalves?: true;
}

const planes4 = { layout: 'planes', planes: 4, groupSize: 32 } as const;
const ternary = { layout: 'ternary', planes: 2, groupSize: 128, coding: 'f16' } as const;

/** Encodings of codes in blocks. */
export const blockEncodings = {
  q4_0: { split: 'splitQ4_0', group: 32, exact: { ...planes4, coding: 'f16' }, checkHalves: true },
  q4_1: { split: 'splitQ4_1', group: 32, exact: { ...planes4, coding: 'f16' }, checkHalves: true },
  q5_0: { split: 'splitQ5_0', group: 32 },
  q5_1: { split: 'splitQ5_1', group: 32 },
  q8_0: { split: 'splitQ8_0', group: 32 },
  q2_k: { split: 'splitQ2_K', group: 16 },
  q3_k: { split: 'splitQ3_K', group: 16 },
  q4_k: { split: 'splitQ4_K', group: 32, exact: { ...planes4, coding: 'f32' } },
  q5_k: { split: 'splitQ5_K', group: 32 },
  q6_k: { split: 'splitQ6_K', group: 16 },
  tq1_0: { split: 'splitTQ1_0', group: 256, exact: ternary },
  tq2_0: { split: 'splitTQ2_0', group: 256, exact: ternary },
} as const satisfies Record<GgufEncoding, Blocks>;

export const blocksOf = (encoding: Encoding): Blocks | undefined => (blockEncodings as Partial<Record<Encoding, Blocks>>)[encoding];

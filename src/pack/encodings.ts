/** Source encodings. A new one is a row in one of these tables and a function in assembly/. */
import type { PartFormat } from '../formats/packed.js';
import type { Encoding, BlockEncoding } from '../formats/source.js';
import type { CodingName } from '../formats/types.js';

export type RowDecoder = (src: number, scales: number, dst: number, cols: number, phase: number, param: number) => void;
export type RowSplitter = (src: number, cols: number, codes: number, params: number, group: number) => void;

/** Encodings of plain values: the function that turns a row into f32 (assembly/rows.ts). */
export const rowDecoders = {
  f32: 'rowFromF32',
  f16: 'rowFromF16',
  bf16: 'rowFromBf16',
  q8: 'rowFromQ8',
  ternary2: 'rowFromTernary2',
  elutq: 'rowFromElutq',
  i2_s: 'rowFromI2S',
} as const satisfies Record<Exclude<Encoding, BlockEncoding>, string>;

interface Blocks {
  /** The function that turns a row into codes and parameters (assembly/gguf.ts, gptq.ts). */
  split: string;
  /** Columns that share a scale; 0: the matrix says how many (`param`). */
  group: number;
  /** K types: the parameters are small integers, for `perBlock` groups at a time; otherwise pairs of f32. */
  perBlock?: number;
  /** The code that means 0, where it is the same for all groups of such a type; otherwise they have minima. */
  middle?: number;
  /** The format that holds codes and parameters as they are. */
  exact: PartFormat;
}

const uniform = (planes: number, groupSize: number, coding: CodingName): PartFormat => ({ layout: 'uniform', planes, groupSize, coding });
const ternary: PartFormat = { layout: 'ternary', planes: 2, groupSize: 128, coding: 'f16' };

/** Encodings of codes in blocks. */
export const blockEncodings = {
  q4_0: { split: 'splitQ4_0', group: 32, exact: uniform(4, 32, 'f16mid') },
  q4_1: { split: 'splitQ4_1', group: 32, exact: uniform(4, 32, 'f16') },
  q5_0: { split: 'splitQ5_0', group: 32, exact: uniform(5, 32, 'f16mid') },
  q5_1: { split: 'splitQ5_1', group: 32, exact: uniform(5, 32, 'f16') },
  q8_0: { split: 'splitQ8_0', group: 32, exact: { layout: 'int8', planes: 0, groupSize: 32, coding: 'f16' } },
  q2_k: { split: 'splitQ2_K', group: 16, perBlock: 16, exact: uniform(2, 16, 'k4') },
  q3_k: { split: 'splitQ3_K', group: 16, perBlock: 16, middle: 4, exact: uniform(3, 16, 'k8') },
  q4_k: { split: 'splitQ4_K', group: 32, perBlock: 8, exact: uniform(4, 32, 'k6') },
  q5_k: { split: 'splitQ5_K', group: 32, perBlock: 8, exact: uniform(5, 32, 'k6') },
  q6_k: { split: 'splitQ6_K', group: 16, perBlock: 16, middle: 32, exact: uniform(6, 16, 'k8') },
  tq1_0: { split: 'splitTQ1_0', group: 256, exact: ternary },
  tq2_0: { split: 'splitTQ2_0', group: 256, exact: ternary },
  gptq2: { split: 'splitGptq2', group: 0, exact: uniform(2, 0, 'f32') },
  gptq3: { split: 'splitGptq3', group: 0, exact: uniform(3, 0, 'f32') },
  gptq4: { split: 'splitGptq4', group: 0, exact: uniform(4, 0, 'f32') },
  gptq4_sym: { split: 'splitGptq4', group: 0, exact: uniform(4, 0, 'f16mid') },
  gptq8_sym: { split: 'splitGptq8', group: 0, exact: { layout: 'int8', planes: 0, groupSize: 0, coding: 'f16' } },
} as const satisfies Record<BlockEncoding, Blocks>;

/** Undefined for plain values. */
export function blocksOf({ encoding, param = 0 }: { encoding: Encoding; param?: number }): Blocks | undefined {
  const blocks = (blockEncodings as Partial<Record<Encoding, Blocks>>)[encoding];
  return blocks?.group === 0 ? { ...blocks, group: param, exact: { ...blocks.exact, groupSize: param } } : blocks;
}

/** Bytes of small parameters: d, dmin (halves), 16 scales, 16 offsets; the same as in assembly/uniform.ts. */
export const SMALL_BYTES = 36;
/** Bytes of a row's parameters as `split` leaves them. */
export const paramBytes = ({ group, perBlock }: Blocks, cols: number): number => perBlock ? SMALL_BYTES * cols / (group * perBlock) : 8 * cols / group;

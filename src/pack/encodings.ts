/** Source encodings: the packer function that turns a row into f32. A new one is a row here and a function in assembly/rows.ts. */
import type { Encoding } from '../formats/source.js';

export type RowDecoder = (src: number, scales: number, dst: number, cols: number, phase: number, param: number) => void;

export const rowDecoders = {
  f32: 'rowFromF32',
  f16: 'rowFromF16',
  bf16: 'rowFromBf16',
  q8: 'rowFromQ8',
  ternary2: 'rowFromTernary2',
} as const satisfies Record<Encoding, string>;

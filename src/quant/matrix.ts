/** Matrices in the quantiser's memory, and products of them. */
import type { Crew } from './crew.js';

/** f32 [rows][cols] at an address. */
export interface Matrix { at: number; rows: number; cols: number }

export const Store = { set: 0, add: 1, subtract: 2 } as const;
const TILE_M = 192, TILE_N = 256, TOKENS = 32;

/** A matrix as a factor: as it is, or transposed. */
type Factor = Matrix | { of: Matrix; transposed: true };
export const t = (of: Matrix): Factor => ({ of, transposed: true });
const strides = (factor: Factor) => 'of' in factor
  ? { at: factor.of.at, rows: factor.of.cols, cols: factor.of.rows, row: 1, col: factor.of.cols }
  : { ...factor, row: factor.cols, col: 1 };

export const newMatrix = (crew: Crew, rows: number, cols: number): Matrix => ({ at: crew.take(4 * rows * cols), rows, cols });
export const values = (crew: Crew, { at, rows, cols }: Matrix) => crew.floats(at, rows * cols);
/** Tasks of functions that work through rows. */
export const tasksOf = (rows: number): number => Math.ceil(rows / TOKENS);

/** c = a b, or added to c, or subtracted from it. `upper`: c is symmetric and its lower part may stay undefined. */
export async function multiply(crew: Crew, c: Matrix, a: Factor, b: Factor, how: number = Store.set, upper = false): Promise<void> {
  const left = strides(a), right = strides(b);
  if (left.rows !== c.rows || right.cols !== c.cols || left.cols !== right.rows) throw new Error(`multiply: [${left.rows}, ${left.cols}] [${right.rows}, ${right.cols}]`);
  await crew.run('multiply', [c.at, c.cols, c.rows, c.cols, left.cols, left.at, left.row, left.col, right.at, right.row, right.col, how, upper ? 1 : 0],
    Math.ceil(c.rows / TILE_M) * Math.ceil(c.cols / TILE_N));
}

/** a − b */
export async function subtract(crew: Crew, out: Matrix, a: Matrix, b: Matrix): Promise<void> {
  await crew.run('difference', [out.at, a.at, b.at, a.rows, a.cols], tasksOf(a.rows));
}

/** The lower part of a symmetric matrix from its upper one. */
export async function mirror(crew: Crew, h: Matrix): Promise<void> {
  await crew.run('mirror', [h.at, h.rows], tasksOf(h.rows));
}

export function zeros(crew: Crew, rows: number, cols: number): Matrix {
  const matrix = newMatrix(crew, rows, cols);
  values(crew, matrix).fill(0);
  return matrix;
}

/** A second one with the same numbers. */
export function copied(crew: Crew, from: Matrix): Matrix {
  const to = newMatrix(crew, from.rows, from.cols);
  values(crew, to).set(values(crew, from));
  return to;
}

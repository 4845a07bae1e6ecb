/** The quantiser's wasm for tests. */
import { Crew } from '../../src/quant/crew.js';
import { values, newMatrix, type Matrix } from '../../src/quant/matrix.js';
import { floats } from '../formats/synthetic.js';

export async function withCrew(work: (crew: Crew) => Promise<void>, threads = 1): Promise<void> {
  const crew = await Crew.start(threads, () => 4 << 20);
  try {
    await work(crew);
  } finally {
    await crew.close();
  }
}

export function matrixOf(crew: Crew, rows: number, cols: number, numbers: ArrayLike<number>): Matrix {
  const matrix = newMatrix(crew, rows, cols);
  values(crew, matrix).set(numbers);
  return matrix;
}
export const randomMatrix = (crew: Crew, rows: number, cols: number, seed: number): Matrix => matrixOf(crew, rows, cols, floats(rows * cols, seed));

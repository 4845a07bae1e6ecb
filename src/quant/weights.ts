/** Weights of a source model as f32 rows. */
import { BadModelFileError } from '../errors.js';
import { readRows, type SourceMatrix, type SourceModel } from '../formats/source.js';
import { NotFiniteError, Packers } from '../pack/packers.js';

/** Rows that are decoded at once: about a million weights. */
const RUN_WEIGHTS = 2 ** 20;

export class WeightReader {
  private constructor(private readonly source: SourceModel, private readonly packers: Packers) {}

  static async create(source: SourceModel): Promise<WeightReader> {
    return new WeightReader(source, await Packers.create());
  }

  /** Runs of rows of a linear layer, in order. */
  async *runs(name: string): AsyncGenerator<{ first: number; count: number; total: number; values: Float32Array }> {
    const matrix = this.source.matrices.get(name)!, { rows, cols } = matrix;
    const count = Math.max(1, Math.floor(RUN_WEIGHTS / cols));
    for (let first = 0; first < rows; first += count) {
      yield { first, count: Math.min(count, rows - first), total: rows, values: await this.decode(matrix, first, Math.min(count, rows - first)) };
    }
  }

  async read(name: string, into: Float32Array): Promise<void> {
    const { cols } = this.source.matrices.get(name)!;
    for await (const { first, values } of this.runs(name)) into.set(values, first * cols);
  }

  /** Rows [first, first + count) of a linear layer. */
  async rows(name: string, first: number, count: number): Promise<Float32Array> {
    return this.decode(this.source.matrices.get(name)!, first, count);
  }

  private async decode({ encoding, cols, codes, scales, phase, param = 0, scale = 1, name }: SourceMatrix, first: number, count: number): Promise<Float32Array> {
    try {
      return this.packers.rows({
        encoding, rows: count, cols, param, factor: scale,
        codes: await readRows(codes, first, count, name),
        scales: scales ? await readRows(scales, first, count, name) : null,
        phases: phase ? Uint32Array.from({ length: count }, (_, i) => phase(first + i)) : null,
      });
    } catch (error) {
      throw error instanceof NotFiniteError ? new BadModelFileError(codes.file.name, name, 'holds a weight that is not a finite number') : error;
    }
  }
}

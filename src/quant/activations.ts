/** Vectors of all calibration tokens, by name [tokens][width]: in memory as long as they are few, else in a file. */
import type { Crew } from './crew.js';
import { values, type Matrix } from './matrix.js';
import { Spill } from './spill.js';

/** Bytes of all vectors together that stay in memory. */
const IN_MEMORY = 512 * 2 ** 20;

/** A run of whole sequences. */
export interface Chunk { first: number; tokens: number; sequences: readonly (readonly number[])[] }

export class Activations {
  private readonly kept = new Map<string, Float32Array>();
  private constructor(private readonly crew: Crew, private readonly file: Spill | undefined) {}

  /** @param path where a file may be made */
  static async create(crew: Crew, tokens: number, widths: Record<string, number>, path: string | undefined): Promise<Activations> {
    const lengths = Object.fromEntries(Object.entries(widths).map(([name, width]) => [name, tokens * width]));
    const bytes = Object.values(lengths).reduce((sum, length) => sum + 4 * length, 0);
    const store = new Activations(crew, path !== undefined && bytes > IN_MEMORY ? await Spill.create(path, lengths) : undefined);
    if (!store.file) for (const [name, length] of Object.entries(lengths)) store.kept.set(name, new Float32Array(length));
    return store;
  }

  async load(name: string, { first }: Chunk, to: Matrix): Promise<void> {
    const target = values(this.crew, to), begin = first * to.cols;
    if (this.file) await this.file.read(name, begin, target);
    else target.set(this.kept.get(name)!.subarray(begin, begin + target.length));
  }
  async save(name: string, { first }: Chunk, from: Matrix): Promise<void> {
    const source = values(this.crew, from), begin = first * from.cols;
    if (this.file) await this.file.write(name, begin, source);
    else this.kept.get(name)!.set(source, begin);
  }
  async close(): Promise<void> {
    await this.file?.close();
  }
}

/** Vectors of all calibration tokens, by name [tokens][width]: in memory as long as they are few, else in a file. */
import type { Crew } from './crew.js';
import { newMatrix, values, type Matrix } from './matrix.js';
import { Spill } from './spill.js';

/** Bytes of all vectors together that stay in memory. */
const IN_MEMORY = 512 * 2 ** 20;

/** A run of whole sequences. */
export interface Chunk { first: number; tokens: number; sequences: readonly (readonly number[])[] }

export class Activations {
  private readonly kept = new Map<string, Float32Array>();
  private constructor(private readonly crew: Crew, private readonly tokens: number, readonly streams: readonly string[], private readonly dim: number,
    private readonly file: Spill | undefined) {}

  /**
   * @param streams of the residual, [tokens][dim] each
   * @param inner width of what lies between the matrices of half a layer, at most: `inner`
   * @param path where a file may be made
   */
  static async create(crew: Crew, tokens: number, streams: readonly string[], dim: number, inner: number, path: string | undefined): Promise<Activations> {
    const widths: Record<string, number> = { ...Object.fromEntries(streams.map(name => [name, dim])), inner };
    const bytes = Object.values(widths).reduce((sum, width) => sum + 4 * width * tokens, 0);
    const file = path !== undefined && bytes > IN_MEMORY ? await Spill.open(path, 'w+', lengthsOf(widths, tokens)) : undefined;
    await file?.hide();
    const store = new Activations(crew, tokens, streams, dim, file);
    if (!file) for (const [name, width] of Object.entries(widths)) store.kept.set(name, new Float32Array(width * tokens));
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
  /** Writes the streams into another file, or reads them from there. */
  async transfer(way: 'read' | 'write', path: string, chunks: readonly Chunk[]): Promise<void> {
    const { streams, dim } = this, file = await Spill.open(path, way === 'read' ? 'r' : 'w+', lengthsOf(Object.fromEntries(streams.map(name => [name, dim])), this.tokens));
    try {
      for (const name of streams) {
        for (const chunk of chunks) {
          await this.crew.within(async () => {
            const matrix = newMatrix(this.crew, chunk.tokens, dim), first = chunk.first * dim;
            if (way === 'write') await this.load(name, chunk, matrix);
            await file[way](name, first, values(this.crew, matrix));
            if (way === 'read') await this.save(name, chunk, matrix);
          });
        }
      }
    } finally {
      await file.close();
    }
  }
  async close(): Promise<void> {
    await this.file?.close();
  }
}

const lengthsOf = (widths: Record<string, number>, tokens: number) => Object.fromEntries(Object.entries(widths).map(([name, width]) => [name, tokens * width]));

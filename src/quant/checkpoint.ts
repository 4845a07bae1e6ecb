/**
 * What is finished, in a folder beside the output: the tiles of every layer, and the streams after the last one. A file
 * counts when `state.json` says so, which is written last and whole.
 */
import { BadArgumentError } from '../errors.js';
import type { Tiles } from '../pack/packers.js';
import { builtin } from '../platform/builtin.js';
import { attemptOr } from '../platform/platform.js';
import type { Activations, Chunk } from './activations.js';
import type { Format } from './rounding.js';

const attempt = attemptOr('write elsewhere');

interface State {
  /** Everything that the result depends on. */
  key: string;
  formats: Record<string, Format>;
  /** Layers that are finished. */
  layers: number;
}

export class Checkpoint {
  private state: State;

  private constructor(private readonly folder: string, key: string) {
    this.state = { key, formats: {}, layers: 0 };
  }

  /**
   * @param output the packed file that it is for
   * @param resume whether to go on with what is there
   * @throws BadArgumentError when that was made from something else
   */
  static async open(output: string, key: string, resume: boolean): Promise<Checkpoint> {
    const { mkdir, readFile, rm } = builtin('node:fs/promises');
    const checkpoint = new Checkpoint(`${output}.partial`, key);
    const text = await readFile(checkpoint.path('state.json'), 'utf8').catch(() => null);
    if (resume && text === null) throw new BadArgumentError('resume', `there is no ${checkpoint.folder}`, 'Leave out `--resume`.');
    if (resume) {
      const state = readState(text!);
      if (state?.key !== key) throw new BadArgumentError('resume', `${checkpoint.folder} was made with other options, calibration or source`, 'Give the same ones, or leave out `--resume` to begin again.');
      checkpoint.state = state;
    } else {
      // Only what is ours: a folder without a state is somebody else's.
      if (text !== null) await rm(checkpoint.folder, { recursive: true });
      await attempt(checkpoint.folder, mkdir(checkpoint.folder));
    }
    return checkpoint;
  }

  get layers(): number { return this.state.layers; }
  get formats(): ReadonlyMap<string, Format> | undefined {
    return this.state.layers > 0 ? new Map(Object.entries(this.state.formats)) : undefined;
  }
  setFormats(formats: ReadonlyMap<string, Format>): void { this.state.formats = Object.fromEntries(formats); }

  /** Keeps a matrix's tiles; they count when their layer is finished. */
  async put(name: string, { rowScale, parts }: Tiles): Promise<void> {
    const lengths = Uint32Array.from([parts.length, rowScale.length, ...parts.map(part => part.length)]);
    await this.write(`${name}.tiles`, [new Uint8Array(lengths.buffer), rowScale, ...parts]);
  }

  async tiles(name: string): Promise<Tiles> {
    const bytes = await attempt(this.folder, builtin('node:fs/promises').readFile(this.path(`${name}.tiles`)));
    const lengths = Array.from({ length: bytes.readUInt32LE(0) + 1 }, (_, i) => bytes.readUInt32LE(4 + 4 * i));
    let at = 4 + 4 * lengths.length;
    const runs = lengths.map(length => new Uint8Array(bytes.subarray(at, at += length)));
    return { rowScale: runs[0]!, parts: runs.slice(1) };
  }

  /** The streams as they are after `layers` layers. */
  async finishLayer(layers: number, activations: Activations, chunks: readonly Chunk[]): Promise<void> {
    const { rm } = builtin('node:fs/promises');
    await activations.transfer('write', this.path(`streams-${layers}`), chunks);
    const before = this.state.layers;
    this.state = { ...this.state, layers };
    await this.write('state.json', [new TextEncoder().encode(JSON.stringify(this.state))]);
    if (before > 0) await rm(this.path(`streams-${before}`), { force: true });
  }
  async restore(activations: Activations, chunks: readonly Chunk[]): Promise<void> {
    await activations.transfer('read', this.path(`streams-${this.layers}`), chunks);
  }

  async remove(): Promise<void> {
    await builtin('node:fs/promises').rm(this.folder, { recursive: true, force: true });
  }

  private path(name: string): string { return `${this.folder}/${name}`; }

  /** A file that is there whole or not at all. */
  private async write(name: string, runs: readonly Uint8Array[]): Promise<void> {
    const { rename, writeFile } = builtin('node:fs/promises');
    await attempt(this.folder, writeFile(this.path(`${name}.tmp`), runs));
    await attempt(this.folder, rename(this.path(`${name}.tmp`), this.path(name)));
  }
}

function readState(text: string): State | undefined {
  try {
    return JSON.parse(text) as State;
  } catch {
    return undefined;
  }
}

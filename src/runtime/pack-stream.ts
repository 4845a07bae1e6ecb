/**
 * A model that is packed straight into the engine's memory: its weights are never held twice. Packing begins at once and
 * stops before the first weights until somebody calls `stream`; header, vectors and tokenizer are kept and can be read.
 */
import type { ByteSink } from '../formats/packed-writer.js';
import type { ByteSource, StreamTarget } from '../formats/types.js';
import { dropBytes } from '../platform/platform.js';

/** Packs the model; called again where its bytes are wanted twice. `meanwhile` is called while the workers start. */
export type PackInto = (sink: ByteSink, signal: AbortSignal, meanwhile?: () => void) => Promise<unknown>;

export class PackStream implements ByteSource {
  size = 0;
  private run!: Run;
  private streamed = false;
  private constructor(readonly name: string, private readonly pack: PackInto, private readonly end: () => Promise<void>) {}

  /**
   * @param meanwhile for `pack`, the first time
   * @param end gives back what `pack` reads from
   */
  static async open(name: string, pack: PackInto, meanwhile: () => void, end: () => Promise<void>): Promise<PackStream> {
    const stream = new PackStream(name, pack, end);
    stream.run = new Run(pack, meanwhile);
    try {
      await stream.run.ready;
    } catch (error) {
      await end();
      throw error;
    }
    stream.size = stream.run.size;
    return stream;
  }

  async read(target: Uint8Array, offset: number): Promise<void> {
    let found = 0;
    for (const { bytes, at } of this.run.kept) {
      const from = Math.max(at, offset), to = Math.min(at + bytes.length, offset + target.length);
      if (from >= to) continue;
      target.set(bytes.subarray(from - at, to - at), from - offset);
      found += to - from;
    }
    if (found !== target.length) throw new Error(`${this.name}: bytes ${offset} to ${offset + target.length} are not kept`);
  }

  async stream(target: StreamTarget): Promise<void> {
    if (this.streamed) {
      const { kept } = this.run;
      this.run = new Run(this.pack);
      await this.run.ready;
      this.run.kept.push(...kept); // readers may come back for the tokenizer
    }
    this.streamed = true;
    await this.run.into(target);
  }

  async close(): Promise<void> {
    await this.run.stop();
    for (const { bytes } of this.run.kept) dropBytes(bytes);
    await this.end();
  }
}

/** One packing of the model. */
class Run {
  size = 0;
  kept: { bytes: Uint8Array; at: number }[] = [];
  /** All that comes before the weights is kept. */
  readonly ready: Promise<void>;
  private readonly done: Promise<unknown>;
  private readonly stopped = new AbortController();
  private small = true;
  private target: StreamTarget | undefined;
  private open!: () => void;
  private readonly opened = new Promise<void>(resolve => { this.open = resolve; });
  private isReady!: () => void;

  constructor(pack: PackInto, meanwhile?: () => void) {
    const full = new Promise<void>(resolve => { this.isReady = resolve; });
    this.done = pack({
      begin: async size => { this.size = size; },
      write: (bytes, at) => this.take(bytes, at), place: (at, length) => this.place(at, length), async finish() {}, async abort() {},
    }, this.stopped.signal, meanwhile);
    this.done.catch(() => {}); // awaited by `into`, if anybody comes so far
    this.ready = Promise.race([full, this.done.then(() => {})]);
  }

  async into(target: StreamTarget): Promise<void> {
    for (const { bytes, at } of this.kept) target.write(bytes, at);
    this.target = target;
    this.open();
    await this.done;
  }

  async stop(): Promise<void> {
    this.stopped.abort();
    this.open();
    await this.done.catch(() => {});
  }

  private async take(bytes: Uint8Array, at: number): Promise<void> {
    if (this.small) {
      this.kept.push({ bytes, at });
      // The tokenizer is last in the file, and comes last before the weights.
      if (at + bytes.length < this.size) return;
      this.small = false;
      return this.isReady();
    }
    (await this.opening()).write(bytes, at);
  }

  private async place(at: number, length: number): Promise<Uint8Array | undefined> {
    return (await this.opening()).place(at, length);
  }

  private async opening(): Promise<StreamTarget> {
    await this.opened;
    this.stopped.signal.throwIfAborted();
    return this.target!;
  }
}

/** Writes a packed model file. All sizes are known before the first weight, so tensors may be written in any order. */
import { ALIGN, FORMAT_VERSION } from '../generated/layout.js';
import { serialiseSafetensorsHeader } from './safetensors.js';
import type { PackedPlan } from './packed.js';
import type { ChatFormat, ModelConfig } from './types.js';

/** Where a file goes. Exactly one of `finish` and `abort` ends it; after `abort` nothing is left behind. */
export interface ByteSink {
  /** Comes first. `size`: of the whole file, bytes. */
  begin(size: number): Promise<void>;
  write(bytes: Uint8Array, offset: number): Promise<void>;
  /** Shared memory that these bytes may be put into instead, by any thread; undefined: there is none. */
  place?(offset: number, length: number): Promise<Uint8Array | undefined>;
  finish(): Promise<void>;
  abort(): Promise<void>;
}

export class PackedWriter {
  /** Size of the whole file, bytes. */
  readonly bytes: number;
  private readonly header: Uint8Array;
  private readonly missing = new Map<string, number>();

  static async begin(sink: ByteSink, config: ModelConfig, plan: PackedPlan, provenance: Record<string, unknown>, chat?: ChatFormat): Promise<PackedWriter> {
    const writer = new PackedWriter(sink, config, plan, provenance, chat);
    await sink.begin(writer.bytes);
    await sink.write(writer.header, 0);
    return writer;
  }

  private constructor(private readonly sink: ByteSink, config: ModelConfig, private readonly plan: PackedPlan, provenance: Record<string, unknown>, chat?: ChatFormat) {
    const lutra = JSON.stringify({ version: FORMAT_VERSION, config, linears: plan.linears, chat, provenance });
    this.header = serialiseSafetensorsHeader({ format: 'lutra', lutra }, plan.tensors, ALIGN);
    this.bytes = this.header.length + plan.dataBytes;
    for (const [name, { begin, end }] of plan.tensors) this.missing.set(name, end - begin);
  }

  /** Bytes of a tensor from byte `at` of it on. */
  async write(name: string, bytes: Uint8Array, at = 0): Promise<void> {
    await this.sink.write(bytes, this.take(name, bytes.length, at));
  }

  /** Where `length` bytes of a tensor are to be put instead of being written, if the sink has such places. */
  async place(name: string, length: number, at: number): Promise<Uint8Array | undefined> {
    if (!this.sink.place) return undefined;
    const offset = this.header.length + this.plan.tensors.get(name)!.begin + at, place = await this.sink.place(offset, length);
    if (place) this.take(name, length, at);
    return place;
  }

  /** Counts them as written; returns their offset. */
  private take(name: string, length: number, at: number): number {
    const { begin, end } = this.plan.tensors.get(name)!;
    if (begin + at + length > end) throw new RangeError(`${name}: ${length} bytes at ${at} of ${end - begin}`);
    this.missing.set(name, this.missing.get(name)! - length);
    return this.header.length + begin + at;
  }

  /** A whole tensor shorter than its place, filled up with `padding`. */
  async writePadded(name: string, bytes: Uint8Array, padding = 0): Promise<void> {
    const { begin, end } = this.plan.tensors.get(name)!;
    await this.write(name, bytes);
    await this.write(name, new Uint8Array(end - begin - bytes.length).fill(padding), bytes.length);
  }

  async finish(): Promise<void> {
    for (const [name, bytes] of this.missing) if (bytes !== 0) throw new Error(`${name}: ${bytes} bytes were not written`);
    await this.sink.finish();
  }
}

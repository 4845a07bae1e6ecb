/** Lutra's engine as a contestant, and over the depth of its context. */
import { createEngine } from '../src/engine/engine.js';
import type { Engine, EngineInfo, EngineOptions, ForwardRow, KvTypeName } from '../src/engine/types.js';
import type { ByteSource, PackedHeader } from '../src/formats/types.js';
import { tokenAt, type Contestant, type Rates } from './contestant.js';
import { streamed } from './shapes.js';

export interface LutraOptions { threads: number; variant: EngineOptions['variant']; context: number; kvType?: KvTypeName; model: string }

export class Lutra implements Contestant {
  readonly name = 'Lutra';
  readonly version = __LUTRA_VERSION__;
  readonly model: string;
  readonly threads: number;
  readonly bytes: number;
  private readonly session: number;
  private filled = 0;

  private constructor(private readonly engine: Engine, header: PackedHeader, options: LutraOptions) {
    this.model = options.model;
    this.threads = options.threads;
    this.bytes = streamed(header).bytes;
    this.session = engine.openSession();
  }

  static async open(source: ByteSource, header: PackedHeader, options: LutraOptions): Promise<Lutra> {
    const { threads, variant, context, kvType } = options;
    const lutra = new Lutra(await createEngine(source, header, { threads, variant, context, maxSessions: 1, reference: false, ...(kvType && { kvType }) }), header, options);
    for (let i = 0; i < 3; i++) await lutra.measure(lutra.engine.maxRows, 2); // optimising compiler
    return lutra;
  }

  get info(): EngineInfo { return this.engine.info; }

  async measure(prompt: number, generated: number): Promise<Rates> {
    const begin = performance.now();
    await this.prefill(0, prompt);
    const middle = performance.now();
    await this.decode(prompt, generated);
    return { prefill: 1000 * prompt / (middle - begin), decode: 1000 * generated / (performance.now() - middle) };
  }

  /** Decode rate behind `depth` tokens, which are computed when they are not there yet. */
  async measureAt(depth: number, generated: number): Promise<number> {
    if (this.filled < depth) await this.prefill(this.filled, this.filled = depth);
    const begin = performance.now();
    await this.decode(depth, generated);
    return 1000 * generated / (performance.now() - begin);
  }

  async close(): Promise<void> {
    await this.engine.dispose();
  }

  private async prefill(from: number, to: number): Promise<void> {
    for (let at = from; at < to; at += this.engine.maxRows) {
      await this.engine.forward(this.rows(at, Math.min(to - at, this.engine.maxRows), to));
    }
  }

  /** Every step draws its token, as an answer does; which one does not matter. */
  private async decode(from: number, count: number): Promise<void> {
    const greedy = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0n };
    for (let at = from; at < from + count; at++) {
      await this.engine.forward(this.rows(at, 1, at + 1));
      this.engine.sample(0, greedy, 0, []);
    }
  }

  private rows(from: number, count: number, end: number): ForwardRow[] {
    return Array.from({ length: count }, (_, i) => ({ session: this.session, position: from + i, token: tokenAt(from + i), wantLogits: from + i === end - 1 }));
  }
}

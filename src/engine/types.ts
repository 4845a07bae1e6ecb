import type { Lifeline } from '../platform/platform.js';
import type { ByteSource, PackedHeader } from '../formats/types.js';

/** One position of a forward pass. */
export interface ForwardRow {
  session: number;
  position: number;
  token: number;
  wantLogits: boolean;
}

/** How the next token is drawn; the order is penalty, top-k, temperature, softmax, top-p, min-p, draw. */
export interface SamplingOptions {
  /** 0 takes the likeliest token. */
  temperature: number;
  /** 0 keeps all. */
  topK: number;
  /** 1 keeps all. */
  topP: number;
  /** 0 keeps all. */
  minP: number;
  /** 1 changes nothing. */
  repetitionPenalty: number;
  /** The token drawn is a function of the logits, the seed and the step alone. */
  seed: bigint;
}

/** 'int8': codes with a scale for each key and value vector. */
export type KvTypeName = 'f32' | 'int8';

export interface EngineOptions {
  /** Threads, or workers of a private crew; 'auto' settles it by timing. */
  threads: number | 'auto';
  /** Default 'auto': the fastest that starts. A crew asked for by name is started or refused. */
  crew?: CrewName | 'auto';
  variant: 'simd' | 'relaxed' | 'auto';
  /** Positions a session can hold. */
  context: number;
  /** Default: defaultKvType() of plan.ts. */
  kvType?: KvTypeName;
  /** Sessions that can exist at once. */
  maxSessions: number;
  /** Run the scalar reference instead of the kernels (slow; defines the arithmetic). */
  reference: boolean;
  onProgress?: (loaded: number, total: number) => void;
  signal?: AbortSignal;
  /** Called for each further thread, once all run: when one ends, this one may be waiting for it. */
  onThread?: (lifeline: Lifeline) => void;
  /** Milliseconds in which threads have to start; after that one thread does the work. Default 20 s. */
  startDeadline?: number;
}

/** Who computes: 'shared': threads over one memory; 'private': workers with memories of their own; 'single': one thread. */
export type CrewName = 'shared' | 'private' | 'single';

/** What really runs. */
export interface EngineInfo {
  wasm: 'simd' | 'simd-shared' | 'relaxed' | 'relaxed-shared';
  crew: CrewName;
  /** Why this crew. */
  crewReason: string;
  threads: number;
  /** Median seconds of a decode step per thread count tried, when settled by timing. */
  threadTimings: Record<number, number> | null;
  level: 'kernels' | 'reference';
  /** Kernel name -> number of parts it serves. */
  kernels: Record<string, number>;
  /** How keys and values are kept. */
  kvType: KvTypeName;
  memoryBytes: { weights: number; workspace: number; kvPerSession: number };
}

/** The forward pass of one model; lives in a worker, is not re-entrant. */
export interface Engine {
  readonly info: EngineInfo;
  readonly maxRows: number;
  openSession(): number;
  closeSession(session: number): void;
  /**
   * Runs up to `maxRows` rows; resolves when their keys and values are stored. Gives control back to the event loop
   * at least every 25 ms or so; when `signal` is aborted it rejects with its reason (the rows are then undefined, the
   * positions below the first of them are intact).
   */
  forward(rows: readonly ForwardRow[], signal?: AbortSignal): Promise<void>;
  /** Logits of the i-th row that wanted them in the last forward: a copy, [vocabSize]. */
  logits(i: number): Float32Array;
  /** Draws a token from those logits. `recent`: ids the repetition penalty looks at. `bias`: added to the logits. */
  sample(i: number, options: SamplingOptions, step: number, recent: readonly number[], bias?: Float32Array): number;
  /** ln softmax(logits)[token] of the i-th row. */
  logProbability(i: number, token: number): number;
  /** Continues a 64-bit hash over the raw bits of the i-th row's logits; start with 0n. */
  hashLogits(i: number, hash: bigint): bigint;
  dispose(): Promise<void>;
}

/** src/engine/engine.ts exports this. Must be called inside a worker: it blocks while it computes. */
export type CreateEngine = (source: ByteSource, header: PackedHeader, options: EngineOptions) => Promise<Engine>;

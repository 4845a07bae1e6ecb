import type { Coding, Layout } from '../generated/layout.js';

/**
 * How rotary embeddings are slowed down for texts longer than those a model was first trained on (cpp/model/rope.cc).
 * Lengths in tokens. `low` and `high`: llama3: low_freq_factor, high_freq_factor; yarn: beta_slow, beta_fast.
 */
export type RopeScaling =
  | { type: 'linear'; factor: number }
  | { type: 'llama3'; factor: number; originalLength: number; low: number; high: number }
  | {
    type: 'yarn'; factor: number; originalLength: number; low: number; high: number;
    /** Whether the pairs between which it blends are whole numbers. */
    truncate: boolean;
    /** Of cosines and sines; null: 0.1 ln factor + 1. */
    attention: number | null;
  };

/** What the runtime knows of a model, whatever file it came from. */
export interface ModelConfig {
  /** 'llama', 'qwen3', 'bitnet' …: for people; the engine follows the fields below. */
  architecture: string;
  dim: number;
  hiddenDim: number;
  nLayers: number;
  nHeads: number;
  nHeadsKv: number;
  headDim: number;
  vocabSize: number;
  /** Longest sequence the model was trained for, in tokens. */
  contextLength: number;
  normEps: number;
  ropeTheta: number;
  ropeScaling: RopeScaling | null;
  /** Positions that attention looks back, its own included; null: all. Contexts beyond it are refused, up to it attention is whole. */
  slidingWindow: number | null;
  activation: 'silu' | 'relu2';
  /** The head reads the embedding's rows. */
  tiedHead: boolean;
  bosId: number | null;
  eosIds: number[];
  /** Whether a prompt starts with `bosId`. */
  addBos: boolean;
}

/** How a model's chats are written. */
export interface ChatFormat {
  /** Jinja, as in a tokenizer_config.json. */
  template: string;
  /** Special tokens that the template knows by name: `bos_token`, `eos_token` … */
  tokens: Record<string, string>;
}

export type LayoutName = keyof typeof Layout;
export type CodingName = keyof typeof Coding;

/** A block of columns of a linear layer, in one layout. Columns [colBegin, colEnd) of the matrix, all rows. */
export interface PartInfo {
  layout: LayoutName;
  /** Bit planes: 1–4 for 'planes', 1–6 for 'uniform', 2 for 'ternary', 0 otherwise. */
  planes: number;
  /** Columns that share parameters: 16, 32, 64 or 128; 0 where there are no groups. */
  groupSize: number;
  coding: CodingName;
  colBegin: number;
  colEnd: number;
  /** Name of the U8 tensor that holds the tiles. */
  tensor: string;
}

/** y = bias + rowScale * sum of parts; one part, or SEGMENTS parts summed (p0 + p1) + (p2 + p3). */
export interface LinearInfo {
  rows: number;
  cols: number;
  parts: PartInfo[];
  /** Name of the F32 tensor of one scale per row, padded to whole tiles; coding 'i6': F16, scales and centres' scales. */
  rowScale: string;
  bias?: string;
}

export interface TensorInfo {
  dtype: string;
  shape: number[];
  /** Byte range relative to the start of the data section. */
  begin: number;
  end: number;
}

/** The checked header of a packed file. */
export interface PackedHeader {
  version: number;
  config: ModelConfig;
  linears: Record<string, LinearInfo>;
  tensors: Record<string, TensorInfo>;
  /** File offset of the data section (a multiple of 64). */
  dataOffset: number;
  dataBytes: number;
  /** Undefined where the model has no chat template. */
  chat?: ChatFormat | undefined;
  provenance: Record<string, unknown>;
}

export interface StreamTarget {
  write(bytes: Uint8Array, offset: number): void;
  /** Shared memory that these bytes may be put into instead, by any thread; undefined: they are to be written. */
  place(offset: number, length: number): Uint8Array | undefined;
}

/** Random access to the bytes of one file, wherever they are. */
export interface ByteSource {
  /** For messages: path, URL or a given name. */
  readonly name: string;
  readonly size: number;
  /** Fills `target` from `offset`; rejects with a typed error when fewer bytes are there. `target` may view shared memory. */
  read(target: Uint8Array, offset: number): Promise<void>;
  /** Where bytes are made rather than read: all of them once, in pieces in any order. `read` then knows only what is small. */
  stream?(target: StreamTarget): Promise<void>;
  close(): Promise<void>;
}

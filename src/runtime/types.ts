/** The types of the public API, shared by both sides of the worker's border. */
import type { Bits } from '../pack/pack.js';
import type { ChatMessage, TemplateVariables } from '../chat/conversation.js';
import type { CrewName, EngineInfo, EngineOptions, KvTypeName } from '../engine/types.js';
import type { ModelConfig } from '../formats/types.js';

/**
 * A path, a URL (`file:`, `https:`, on pages also relative), `hf:ORG/REPO[@REVISION][/FILE]` on the Hugging Face hub, the bytes of a model file, a
 * Blob or File, or a stream of its bytes.
 */
export type ModelSource = string | URL | Uint8Array | ArrayBuffer | Blob | ReadableStream<Uint8Array>;

/** What of it crosses to the worker. */
export type WireSource = string | Uint8Array | Blob;

/** Text, or token ids as they are. */
export type Prompt = string | readonly number[];

/** The level at which a model that is not packed yet is packed when it is loaded: bits per weight. */
export type WeightLevel = Bits;

export interface LoadProgress {
  /** 'download': bytes of a model on a server; 'pack': a model in another format is converted; 'load': weights go to their place. */
  phase: 'download' | 'pack' | 'load';
  loaded: number;
  total: number;
}

export interface LoadOptions {
  /** Threads that compute; 'auto' (default) times a few counts and takes the fastest. */
  threads?: number | 'auto';
  /** Who computes: 'shared': threads over one memory; 'private': workers with memories of their own; 'single': one. Default 'auto': the fastest that starts; `info().crewReason` says why. */
  crew?: CrewName | 'auto';
  /** Tokens a session holds, prompt and answer together. Default: what the model was trained for, at most 2048. */
  context?: number;
  /** How keys and values of earlier tokens are kept. 'int8': a quarter of the memory, and faster behind long texts. Default: 'int8', but 'f32' where the weights are f32 or a position takes less than 32 KiB. */
  kvType?: KvTypeName;
  /** Sessions that can exist at once besides the model's own. Default 1. Each costs `info().memoryBytes.kvPerSession`. */
  maxSessions?: number;
  /** Which build of the kernels runs. Default 'auto'. */
  variant?: EngineOptions['variant'];
  /** For a model that is not packed: the weights' level. Default 8, ternary where the source is. A packed file keeps its own. */
  weights?: WeightLevel;
  /** For a model that is not packed: columns that share a scale. Default 64. */
  groupSize?: 32 | 64 | 128;
  /** For formats whose tokenizer is another file: its path. Default: the one beside the model. */
  tokenizer?: string | URL;
  /** Run the scalar code that defines the arithmetic instead of the kernels. Slow, same bits. Default false. */
  reference?: boolean;
  /** Access token for models on the hub that are not public. Default: the environment variable HF_TOKEN. No other host sees it. */
  token?: string;
  onProgress?: (progress: LoadProgress) => void;
  signal?: AbortSignal;
}

export interface GenerateOptions {
  /** Tokens to generate at most. Default: as many as the context holds. */
  maxTokens?: number;
  /** 0 takes the likeliest token every time. Default 0.8. */
  temperature?: number;
  /** Draw from this many likeliest tokens; 0 from all. Default 40. */
  topK?: number;
  /** Draw from the likeliest tokens that hold this share of the probability. Default 0.95. */
  topP?: number;
  /** Drop tokens less likely than this share of the likeliest one's probability. Default 0.05. */
  minP?: number;
  /** Divides the scores of the last 64 tokens. Default 1: no penalty. */
  repetitionPenalty?: number;
  /** Same seed, same answer. Default: random; the result says which. */
  seed?: number | bigint;
  /** Generation ends before the first of these strings. */
  stop?: readonly string[];
  signal?: AbortSignal;
  /** Also return a hash over the raw logits of every step. Default false. */
  hashLogits?: boolean;
}

export interface ChatOptions extends GenerateOptions {
  /**
   * What happens to a chat that leaves no room for an answer: 'error' (default), or 'drop-oldest': its oldest turns are left
   * out, until `maxTokens`, at most a quarter of the context, are free. System messages and the last turn stay.
   */
  overflow?: 'error' | 'drop-oldest';
  /** Further variables of the model's template, such as `enable_thinking` or `date_string`. They are trusted like the template. */
  templateVariables?: TemplateVariables;
}

/** Some more of the answer: whole characters, and the tokens they came from. The last piece can be empty text. */
export interface Piece {
  text: string;
  ids: number[];
}

export interface Timings {
  prefillSeconds: number;
  /** Without the time the consumer took. */
  decodeSeconds: number;
  /** Prompt tokens computed per second. */
  prefillTokensPerSecond: number;
  /** Tokens per second after the first one of the answer; 0 when there was no second one. */
  decodeTokensPerSecond: number;
}

export interface GenerationResult {
  /** The answer, without the prompt and without the stop string. */
  text: string;
  /** Tokens of the answer, without the one that ended it. */
  ids: number[];
  /** Tokens of the prompt, BOS included. */
  promptIds: number[];
  /** 'stop': the model or a stop string ended it; 'length': `maxTokens` or the context; 'aborted': the caller. */
  finishReason: 'stop' | 'length' | 'aborted';
  promptTokens: number;
  /** Of these, tokens that the session had computed before. */
  cachedTokens: number;
  /** In a chat: messages that were left out to make room. */
  droppedMessages?: number;
  completionTokens: number;
  timings: Timings;
  seed: bigint;
  /** 16 hex digits, when asked for. */
  logitsHash?: string;
}

export interface ScoreOptions {
  /** First position whose prediction is scored. Default 0. */
  from?: number;
  /** Also return the logits of positions `from` to the last. Default false. */
  logits?: boolean;
  signal?: AbortSignal;
}

export interface TokenizeOptions {
  /** Whether the ids start with the model's BOS; left out: as the model wants it. */
  addBos?: boolean;
  /** Special tokens that the text spells become special tokens. Default false: they are text like any other. */
  special?: boolean;
}

export interface Scores {
  /** [ids.length − 1 − from]: element i is ln p(ids[from + i + 1] | ids up to from + i), in nats. */
  logProbabilities: Float64Array;
  /** [ids.length − from] arrays of [vocabSize], when asked for. */
  logits?: Float32Array[];
}

export interface ModelInfo extends EngineInfo {
  /** Where the model came from. */
  source: string;
  config: ModelConfig;
  /** Tokens a session holds. */
  context: number;
  maxSessions: number;
  /** Bytes of the packed model. */
  packedBytes: number;
  /** How and from what the packed model was made. */
  provenance: Record<string, unknown>;
  /** The model has a chat template: `chat` works. */
  chatTemplate: boolean;
  /** From the call of `loadModel` in the worker to the first possible forward pass. */
  loadSeconds: number;
}

/** What crosses to the worker: options without functions and signals, and the calls there are. */
export type WireLoadOptions = Omit<LoadOptions, 'onProgress' | 'signal' | 'tokenizer'> & { tokenizer?: string };
export type WireGenerateOptions = Omit<GenerateOptions, 'signal'>;
export type WireChatOptions = Omit<ChatOptions, 'signal'>;
export type WireScoreOptions = Omit<ScoreOptions, 'signal'>;

/** Session 0 is the model's own. */
export type RuntimeMethods = {
  load: { args: { source: WireSource; options: WireLoadOptions }; result: ModelInfo; event: LoadProgress };
  generate: { args: { session: number; prompt: Prompt | null; options: WireGenerateOptions }; result: GenerationResult; event: Piece };
  chat: { args: { session: number; messages: readonly ChatMessage[]; options: WireChatOptions }; result: GenerationResult; event: Piece };
  score: { args: { session: number; ids: readonly number[]; options: WireScoreOptions }; result: Scores; event: never };
  openSession: { args: null; result: number; event: never };
  closeSession: { args: { session: number }; result: void; event: never };
  append: { args: { session: number; prompt: Prompt }; result: number; event: never };
  truncate: { args: { session: number; position: number }; result: number; event: never };
  sessionIds: { args: { session: number }; result: number[]; event: never };
  tokenize: { args: { text: string; options: TokenizeOptions }; result: number[]; event: never };
  tokenizeChat: { args: { messages: readonly ChatMessage[]; variables: TemplateVariables | undefined }; result: number[]; event: never };
  pieces: { args: { ids: readonly number[] }; result: string[]; event: never };
  detokenize: { args: { ids: readonly number[] }; result: string; event: never };
};

/**
 * A runtime on a tiny deterministic engine in this very thread: what a call does can be seen without kernels, weights or
 * workers. Messages are cloned as a real channel clones them.
 */
import type { Engine, EngineOptions, ForwardRow } from '../../src/engine/types.js';
import type { ModelConfig, PackedHeader } from '../../src/formats/types.js';
import { connectModel, type Model } from '../../src/model.js';
import { bytesSource, yieldToEvents, type Peer, type WorkerPeer } from '../../src/platform/platform.js';
import { serveRuntime } from '../../src/runtime/runtime.js';
import type { LoadOptions } from '../../src/runtime/types.js';
import { EngineCrashError } from '../../src/errors.js';

/** Ids 3–258 are bytes; 259 on are words. 0 <unk>, 1 <s>, 2 </s>. */
const WORDS = ['▁', 'He', 'l', 'o', 'lo', 'llo', 'Hello', '▁Hello', '▁world', 'END', 'é', '€', 'H', 'e'];
export const VOCAB = 259 + WORDS.length;
export const EOS = 2;
export const byteId = (byte: number) => 3 + byte;
export const wordId = (word: string) => 259 + WORDS.indexOf(word);

export const tokenizerJson = {
  added_tokens: ['<unk>', '<s>', '</s>'].map((content, id) => ({ id, content, special: true })),
  normalizer: { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, { type: 'Replace', pattern: { String: ' ' }, content: '▁' }] },
  pre_tokenizer: null,
  post_processor: null,
  decoder: { type: 'Sequence', decoders: [{ type: 'Replace', pattern: { String: '▁' }, content: ' ' }, { type: 'ByteFallback' }, { type: 'Fuse' }, { type: 'Strip', content: ' ', start: 1, stop: 0 }] },
  model: {
    type: 'BPE', byte_fallback: true, unk_token: '<unk>',
    vocab: Object.fromEntries([
      ['<unk>', 0], ['<s>', 1], ['</s>', 2],
      ...Array.from({ length: 256 }, (_, byte) => [`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`, byteId(byte)]),
      ...WORDS.map(word => [word, wordId(word)]),
    ]) as Record<string, number>,
    merges: [['l', 'o'], ['l', 'lo'], ['H', 'e'], ['He', 'llo'], ['▁', 'Hello']] as [string, string][],
  },
};

export const config: ModelConfig = {
  architecture: 'llama', dim: 8, hiddenDim: 8, nLayers: 1, nHeads: 1, nHeadsKv: 1, headDim: 8, vocabSize: VOCAB, contextLength: 256,
  normEps: 1e-5, ropeTheta: 10000, ropeScaling: null, slidingWindow: null, activation: 'silu', tiedHead: true, bosId: 1, eosIds: [EOS], addBos: true,
};

export interface FakeOptions {
  /** The next id after these; left out: a function of all of them. */
  next?: (ids: readonly number[]) => number;
  /** Milliseconds that each row takes, spent in slices that let messages in. */
  rowMs?: number;
  config?: Partial<ModelConfig>;
  tokenizer?: object;
  /** Of its chats. */
  template?: string;
}

/** What the engine was asked to do, newest last. */
export interface Log { rows: ForwardRow[]; open: number; options?: EngineOptions }

function fakeEngine(log: Log, { next = chaotic, rowMs = 0 }: FakeOptions): Engine {
  const stored = new Map<number, number[]>();
  let wanted: number[][] = [];
  let handles = 0;
  const logitsOf = (ids: number[]) => {
    const logits = new Float32Array(VOCAB);
    logits[next(ids)] = 20;
    return logits;
  };
  return {
    info: {
      wasm: 'simd', crew: 'single', crewReason: 'a fake', threads: 1, threadTimings: null, level: 'kernels', kernels: { fake: 1 }, kvType: 'f32',
      memoryBytes: { weights: 0, workspace: 0, kvPerSession: 0 },
    },
    maxRows: 4,
    openSession() { log.open++; stored.set(handles, []); return handles++; },
    closeSession(session) { log.open--; stored.delete(session); },
    async forward(rows, signal) {
      wanted = [];
      for (const row of rows) {
        for (let until = performance.now() + rowMs; performance.now() < until;) await yieldToEvents();
        signal?.throwIfAborted();
        const ids = stored.get(row.session)!;
        if (row.position > ids.length) throw new Error(`position ${row.position} after ${ids.length} stored ones`);
        ids.length = row.position;
        ids.push(row.token);
        log.rows.push(row);
        if (row.wantLogits) wanted.push([...ids]);
      }
    },
    logits: i => logitsOf(wanted[i]!),
    sample: (i, options, step) => options.temperature === 0 ? next(wanted[i]!) : 259 + Number((options.seed + BigInt(step)) % BigInt(WORDS.length)),
    logProbability: (i, token) => token === next(wanted[i]!) ? -0.5 : -10,
    hashLogits: (i, hash) => BigInt.asUintN(64, hash * 31n + BigInt(next(wanted[i]!))),
    async dispose() {},
  };
}

const chaotic = (ids: readonly number[]) => 259 + ids.reduce((sum, id, i) => (sum * 7 + id + i) % 1009, 1) % WORDS.length;

/** Two ends of a channel within one thread. */
export function channel(): { outside: WorkerPeer; inside: Peer; crash(): void } {
  const listeners: ((message: unknown) => void)[][] = [[], []];
  let crashed: ((error: EngineCrashError) => void) | undefined;
  let open = true;
  const end = (mine: number): Peer => ({
    post(message) {
      const copy: unknown = structuredClone(message);
      setImmediate(() => { if (open) for (const listener of listeners[1 - mine]!) listener(copy); });
    },
    onMessage(listener) { listeners[mine]!.push(listener); },
  });
  const outside = { ...end(0), onCrash: (listener: (error: EngineCrashError) => void) => { crashed = listener; }, terminate: async () => { open = false; } };
  return { outside, inside: end(1), crash: () => crashed?.(new EngineCrashError('worker.js', new Error('gone'))) };
}

export async function fakeModel(fake: FakeOptions = {}, options: LoadOptions = {}): Promise<{ model: Model; log: Log; crash(): void }> {
  const log: Log = { rows: [], open: 0 };
  const { outside, inside, crash } = channel();
  const tokenizer = new TextEncoder().encode(JSON.stringify(fake.tokenizer ?? tokenizerJson));
  const header: PackedHeader = {
    version: 1, config: { ...config, ...fake.config }, linears: {}, dataOffset: 0, dataBytes: tokenizer.length, provenance: {},
    ...(fake.template !== undefined && { chat: { template: fake.template, tokens: { bos_token: '<s>', eos_token: '</s>' } } }),
    tensors: { tokenizer: { dtype: 'U8', shape: [tokenizer.length], begin: 0, end: tokenizer.length } },
  };
  serveRuntime(inside, {
    openPacked: async (_source, _options, onProgress) => {
      onProgress('pack', 1, 2);
      onProgress('pack', 2, 2);
      return { source: bytesSource('fake.safetensors', tokenizer), header };
    },
    createEngine: async (_source, _header, options) => { log.options = options; return fakeEngine(log, fake); },
  });
  return { model: await connectModel(outside, 'fake.safetensors', options), log, crash };
}

/** An engine that says exactly these ids after a prompt of `promptLength` tokens, then ends. */
export const saying = (promptLength: number, ids: readonly number[]) => (all: readonly number[]) => ids[all.length - promptLength] ?? EOS;

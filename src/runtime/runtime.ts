/** The worker that holds a model: opens it, keeps its sessions, answers the calls of `src/model.ts`. */
import type { ChatWriter } from '../chat/chat.js';
import type { CreateEngine } from '../engine/types.js';
import { BadArgumentError, BadModelFileError, ChatTemplateError, DisposedError } from '../errors.js';
import type { SourceModel } from '../formats/source.js';
import type { ByteSource, ChatFormat, PackedHeader } from '../formats/types.js';
import { chatPart } from '../parts/parts.js';
import { collectGarbage, largeBytes, type Lifeline, type Peer } from '../platform/platform.js';
import { Tokenizer } from '../tokenizer/tokenizer.js';
import { generate, type Voice } from './generate.js';
import { DEFAULT_CONTEXT, planGeneration, whole } from './options.js';
import { atMostTenPerSecond, inPhases } from './progress.js';
import { Queue } from './queue.js';
import { serve } from './rpc.js';
import { Session, type SharedEngine } from './session.js';
import type { LoadProgress, ModelInfo, Prompt, RuntimeMethods, WireLoadOptions, WireSource } from './types.js';

/** What a runtime is put together from. */
export interface RuntimeParts {
  /** Any model, as a packed one. */
  openPacked(source: WireSource, options: WireLoadOptions, onProgress: (phase: LoadProgress['phase'], loaded: number, total: number) => void, signal: AbortSignal,
    onModel: (model: SourceModel, name: string) => void): Promise<{ source: ByteSource; header: PackedHeader }>;
  createEngine: CreateEngine;
}

export function serveRuntime(peer: Peer, parts: RuntimeParts): void {
  let model: LoadedModel;
  serve<RuntimeMethods>(peer, {
    async load({ source, options }, { emit, signal }) {
      // A thread that ends while this one waits for it is for the caller to notice.
      const onThread = (lifeline: Lifeline) => peer.post({ lifeline }, typeof lifeline === 'string' ? [] : [lifeline]);
      model = await LoadedModel.load(parts, source, options, (phase, loaded, total) => emit({ phase, loaded, total }), onThread, signal);
      return model.info;
    },
    generate: ({ session, prompt, options }, { emitItem, signal }) => model.inSession(session, async one => {
      const plan = planGeneration(options);
      if (prompt !== null) one.replace(model.ids(prompt));
      if (one.ids.length === 0) throw new BadArgumentError('prompt', 'has no tokens', 'Give some text: this model starts from nothing else.');
      return generate(one, model.voice, plan, emitItem, signal);
    }),
    chat: ({ session, messages, options }, { emitItem, signal }) => model.inSession(session, async one => {
      const plan = planGeneration(options);
      const { voice } = model, writer = await model.writer();
      const { ids, dropped } = writer.fit(messages, options, voice.context);
      one.replace(ids);
      const result = await generate(one, { ...voice, eosIds: [...voice.eosIds, ...writer.endIds], ownText: true }, plan, emitItem, signal);
      return { ...result, droppedMessages: dropped };
    }),
    score: ({ session, ids, options }, { signal }) => model.inSession(session, async one => {
      model.voice.tokenizer.check(ids, 'ids');
      whole('ids.length', ids.length, 1);
      whole('from', options.from ?? 0, 0, ids.length - 1);
      return one.score(ids, options, signal);
    }),
    openSession: async () => model.openSession(),
    closeSession: ({ session }) => model.closeSession(session),
    append: ({ session, prompt }, { signal }) => model.inSession(session, async one => {
      const before = one.ids.length;
      one.push(...model.ids(prompt, before === 0 ? undefined : false));
      await one.store(signal).catch(error => {
        one.truncate(before);
        throw error;
      });
      return one.ids.length;
    }),
    truncate: ({ session, position }) => model.inSession(session, async one => {
      whole('position', position, 0);
      one.truncate(position);
      return one.ids.length;
    }),
    sessionIds: ({ session }) => model.inSession(session, async one => [...one.ids]),
    tokenize: async ({ text, options }) => model.voice.tokenizer.encode(text, options),
    tokenizeChat: async ({ messages, variables }) => (await model.writer()).encode(messages, variables),
    async pieces({ ids }) {
      model.voice.tokenizer.check(ids, 'ids');
      return model.voice.tokenizer.pieces(ids);
    },
    async detokenize({ ids }) {
      model.voice.tokenizer.check(ids, 'ids');
      return model.voice.tokenizer.decode(ids);
    },
  }, async () => { await model?.end(); });
}

class LoadedModel {
  readonly #sessions = new Map<number, Session>();
  readonly #engine: SharedEngine;
  readonly #chat: ChatFormat | undefined;
  /** Made for the first chat. */
  #writer: ChatWriter | undefined;
  #nextSession = 0;

  private constructor(engine: SharedEngine, readonly voice: Voice, readonly info: ModelInfo, chat: ChatFormat | undefined) {
    this.#engine = engine;
    this.#chat = chat;
    this.openSession();
  }

  static async load({ openPacked, createEngine }: RuntimeParts, from: WireSource, options: WireLoadOptions,
    onProgress: (phase: LoadProgress['phase'], loaded: number, total: number) => void, onThread: (lifeline: Lifeline) => void, signal: AbortSignal): Promise<LoadedModel> {
    const begin = performance.now();
    const { threads = 'auto', crew = 'auto', kvType, variant = 'auto', maxSessions = 1, reference = false } = options;
    if (threads !== 'auto') whole('threads', threads, 1, 1024);
    if (!['auto', 'simd', 'relaxed'].includes(variant)) throw new BadArgumentError('variant', `${variant} is not known`, 'Use auto, simd or relaxed.');
    if (!['auto', 'shared', 'private', 'single'].includes(crew)) throw new BadArgumentError('crew', `${crew} is not known`, 'Use auto, shared, private or single.');
    if (![undefined, 'f32', 'int8'].includes(kvType)) throw new BadArgumentError('kvType', `${kvType} is not known`, 'Use f32 or int8.');
    whole('maxSessions', maxSessions, 1, 1024);
    let tokenizer: Tokenizer | undefined;
    const { source, header } = await openPacked(from, options, inPhases(onProgress), signal, ({ tokenizerJson, config, chat }, name) => {
      tokenizer = new Tokenizer(tokenizerJson, config, name, chat?.template);
      // A foreign vocabulary leaves ten times its size behind, and the weights come next.
      void collectGarbage();
    });
    try {
      const { config } = header;
      const { context = Math.min(config.contextLength, config.slidingWindow ?? Infinity, DEFAULT_CONTEXT) } = options;
      whole('context', context, 2, config.contextLength);
      const starting = createEngine(source, header, {
        threads, crew, variant, context, reference, signal, onThread, ...(kvType && { kvType }),
        maxSessions: maxSessions + 1,
        onProgress: atMostTenPerSecond((loaded, total) => onProgress('load', loaded, total)),
      });
      starting.catch(() => {}); // awaited below
      tokenizer ??= await tokenizerBytes(source, header).then(bytes => new Tokenizer(bytes, config, source.name, header.chat?.template)).catch(async error => {
        await starting.then(engine => engine.dispose(), () => {});
        throw error;
      });
      void collectGarbage();
      const engine = await starting;
      const info = {
        ...engine.info, source: source.name, config, context, maxSessions, packedBytes: source.size, provenance: header.provenance, chatTemplate: header.chat !== undefined,
        loadSeconds: (performance.now() - begin) / 1000,
      };
      return new LoadedModel({ engine, turns: new Queue(), context }, { tokenizer, eosIds: config.eosIds, context }, info, header.chat);
    } finally {
      await source.close();
    }
  }

  async end(): Promise<void> {
    await this.#engine.engine.dispose();
  }

  openSession(): number {
    if (this.#sessions.size > this.info.maxSessions) {
      throw new BadArgumentError('maxSessions', `${this.info.maxSessions} sessions exist already`, 'Dispose of one, or load the model with larger `maxSessions`.');
    }
    const id = this.#nextSession++;
    this.#sessions.set(id, new Session(this.#engine));
    return id;
  }

  async closeSession(id: number): Promise<void> {
    await this.inSession(id, async session => {
      this.#sessions.delete(id);
      session.close();
    });
  }

  async inSession<T>(id: number, task: (session: Session) => Promise<T>): Promise<T> {
    const session = this.#sessions.get(id);
    if (!session) throw new DisposedError('session');
    return session.calls.run(() => {
      if (!this.#sessions.has(id)) throw new DisposedError('session');
      return task(session);
    });
  }

  async writer(): Promise<ChatWriter> {
    const { source } = this.info;
    if (!this.#chat) throw new ChatTemplateError(source, 'this model has no chat template', 'Use `generate` with a prompt as the model was trained for, or an instruct model.');
    const { ChatWriter } = await chatPart();
    return this.#writer ??= new ChatWriter(this.#chat, this.voice.tokenizer, source);
  }

  ids(prompt: Prompt, addBos?: boolean): number[] {
    if (typeof prompt === 'string') return this.voice.tokenizer.encode(prompt, { addBos });
    this.voice.tokenizer.check(prompt, 'prompt');
    return [...prompt];
  }
}

async function tokenizerBytes(source: ByteSource, { tensors, dataOffset }: PackedHeader): Promise<Uint8Array> {
  const tensor = tensors.tokenizer;
  if (!tensor) throw new BadModelFileError(source.name, 'tokenizer', 'is missing', 'Pack the model again, together with its tokenizer.');
  const bytes = largeBytes(tensor.end - tensor.begin);
  await source.read(bytes, dataOffset + tensor.begin);
  return bytes;
}

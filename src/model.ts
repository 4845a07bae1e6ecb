/** The caller's side: thin handles on a model that lives in a worker. Nothing here computes. */
import type { ChatMessage } from './chat/conversation.js';
import { DisposedError } from './errors.js';
import { resolveLocation, spawn, type WorkerPeer } from './platform/platform.js';
import { RpcClient, type Call } from './runtime/rpc.js';
import type {
  ChatOptions, GenerateOptions, GenerationResult, LoadOptions, ModelInfo, ModelSource,
  Piece, Prompt, RuntimeMethods, ScoreOptions, Scores, TokenizeOptions, WireSource,
} from './runtime/types.js';

type Client = RpcClient<RuntimeMethods>;

/**
 * Loads a model into a worker of its own. The calling thread is never blocked. A model that is not packed is packed first,
 * in memory.
 *
 * @throws BadModelFileError, UnsupportedFormatError, FileAccessError: what is wrong with the source
 * @throws BadArgumentError, OutOfMemoryError, EnvironmentError: what cannot be had
 * @throws `signal.reason` once `signal` is aborted
 */
export async function loadModel(source: ModelSource, options: LoadOptions = {}): Promise<Model> {
  options.signal?.throwIfAborted();
  return connectModel(await spawn('worker.js', { role: 'runtime' }, { unref: true }), source, options);
}

/** `loadModel` on a runtime that is there already. */
export async function connectModel(peer: WorkerPeer, source: ModelSource, { onProgress, signal, tokenizer, ...options }: LoadOptions = {}): Promise<Model> {
  const client: Client = new RpcClient(peer);
  // There is nothing to keep yet: the worker goes at once.
  const abort = () => void client.close(signal!.reason);
  signal?.addEventListener('abort', abort);
  try {
    const wire = await wireSource(source);
    signal?.throwIfAborted();
    const args = { source: wire, options: { ...options, ...(tokenizer && { tokenizer: String(tokenizer) }) } };
    return new Model(client, await client.call('load', args, onProgress).result);
  } catch (error) {
    await client.close(error);
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

async function wireSource(source: ModelSource): Promise<WireSource> {
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source instanceof Blob) return source;
  if (source instanceof ReadableStream) return new Response(source).blob();
  if (!(source instanceof Uint8Array)) return resolveLocation(String(source));
  // A view is posted together with everything it is a view of.
  return source.byteLength === source.buffer.byteLength ? source : source.slice();
}

/** A model in memory. Calls outside a session run one after another, each in the state the one before left to reuse. */
export class Model implements AsyncDisposable {
  readonly #client: Client;
  readonly #info: ModelInfo;

  /** @internal */
  constructor(client: Client, info: ModelInfo) {
    this.#client = client;
    this.#info = info;
  }

  /** What was loaded and what really runs it. */
  info(): ModelInfo {
    return this.#info;
  }

  /**
   * Continues `prompt`. Starts at once; iterate over the pieces, or await `.result`, or both.
   * Errors, `ContextFullError` and `BadArgumentError` among them, reach whoever does.
   */
  generate(prompt: Prompt, options: GenerateOptions = {}): Generation {
    return startGeneration(this.#client, 0, prompt, options);
  }

  /**
   * The model's answer to a chat, by the model's own template; what messages say never becomes a special token. What the
   * chat shares with the call before is not computed again (`result.cachedTokens`).
   * `ChatTemplateError` and `ContextFullError` reach whoever iterates or awaits.
   */
  chat(messages: readonly ChatMessage[], options: ChatOptions = {}): Generation {
    return startChat(this.#client, 0, messages, options);
  }

  /**
   * How likely each token of `ids` is after those before it.
   * @throws ContextFullError when `ids` are more than the context holds
   */
  async score(ids: readonly number[], { signal, ...options }: ScoreOptions = {}): Promise<Scores> {
    return cancellable(signal, () => this.#client.call('score', { session: 0, ids, options }));
  }

  /** A conversation of its own, with its own keys and values. At most `maxSessions` at once. */
  async createSession(): Promise<Session> {
    return new Session(this.#client, await this.#client.call('openSession', null).result);
  }

  /** Ids of `text`. Unless `special` is set, text never becomes a special token, whatever it spells. */
  async tokenize(text: string, options: TokenizeOptions = {}): Promise<number[]> {
    return this.#client.call('tokenize', { text, options }).result;
  }

  /** Ids of a chat up to where the model's answer begins: what `chat` would give the model. */
  async tokenizeChat(messages: readonly ChatMessage[], { templateVariables }: Pick<ChatOptions, 'templateVariables'> = {}): Promise<number[]> {
    return this.#client.call('tokenizeChat', { messages, variables: templateVariables }).result;
  }

  /** What each of `ids` stands for, by itself; special tokens as they are written. */
  async pieces(ids: readonly number[]): Promise<string[]> {
    return this.#client.call('pieces', { ids }).result;
  }

  /** Text of `ids`, special tokens left out. */
  async detokenize(ids: readonly number[]): Promise<string> {
    return this.#client.call('detokenize', { ids }).result;
  }

  /** Ends the worker and frees the memory. Calls under way reject with `DisposedError`, and so does every later one. */
  async dispose(): Promise<void> {
    await this.#client.close(new DisposedError('model'));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

/** Tokens with their keys and values. Calls on one session run one after another. */
export class Session implements AsyncDisposable {
  readonly #client: Client;
  readonly #id: number;

  /** @internal */
  constructor(client: Client, id: number) {
    this.#client = client;
    this.#id = id;
  }

  /**
   * Makes `prompt` the session's tokens and continues them; what they share with the tokens before is not computed again
   * (`result.cachedTokens`). `null` continues from where the session stands. The answer becomes part of the session.
   */
  generate(prompt: Prompt | null, options: GenerateOptions = {}): Generation {
    return startGeneration(this.#client, this.#id, prompt, options);
  }

  /** Makes a chat the session's tokens and answers it, as `Model.chat` does. */
  chat(messages: readonly ChatMessage[], options: ChatOptions = {}): Generation {
    return startChat(this.#client, this.#id, messages, options);
  }

  /**
   * Puts tokens at the end and computes them. BOS is added at the beginning only. Returns the number of tokens now held.
   * @throws ContextFullError when they do not fit; the session is as before
   */
  async append(prompt: Prompt, { signal }: { signal?: AbortSignal } = {}): Promise<number> {
    return cancellable(signal, () => this.#client.call('append', { session: this.#id, prompt }));
  }

  /** Forgets all tokens from `position` on. Returns the number of tokens now held. */
  async truncate(position: number): Promise<number> {
    return this.#client.call('truncate', { session: this.#id, position }).result;
  }

  /** The tokens held, prompts and answers. */
  async ids(): Promise<number[]> {
    return this.#client.call('sessionIds', { session: this.#id }).result;
  }

  /** Frees the session's place, after the calls under way. */
  async dispose(): Promise<void> {
    await this.#client.call('closeSession', { session: this.#id }).result.catch((error: unknown) => {
      // Disposed already, or together with its model.
      if (!(error instanceof DisposedError)) throw error;
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

/** A call that `signal` cancels, and that then rejects with the signal's reason; not even begun when it is aborted already. */
async function cancellable<T>(signal: AbortSignal | undefined, start: () => Call<T>): Promise<T> {
  signal?.throwIfAborted();
  const call = start();
  signal?.addEventListener('abort', call.cancel);
  try {
    return await call.result;
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  } finally {
    signal?.removeEventListener('abort', call.cancel);
  }
}

function startGeneration(client: Client, session: number, prompt: Prompt | null, { signal, ...options }: GenerateOptions): Generation {
  return new Generation(onPiece => client.call('generate', { session, prompt, options }, onPiece), signal);
}

function startChat(client: Client, session: number, messages: readonly ChatMessage[], { signal, ...options }: ChatOptions): Generation {
  return new Generation(onPiece => client.call('chat', { session, messages, options }, onPiece), signal);
}

/**
 * An answer that is being written: an async iterable of its pieces. The engine waits when nobody takes them, unless the
 * `result` was asked for. Leaving a `for await` loop cancels.
 */
export class Generation implements AsyncIterable<Piece> {
  readonly #result: Promise<GenerationResult>;
  readonly #pieces: Piece[] = [];
  #call: Call<GenerationResult> | undefined;
  #wake = () => {};
  #over = false;

  /** @internal */
  constructor(start: (onPiece: (piece: Piece) => void) => Call<GenerationResult>, signal: AbortSignal | undefined) {
    this.#result = this.#run(start, signal);
    // Whoever iterates, or awaits `result`, sees the error; nobody needs to do both.
    this.#result.catch(() => {});
  }

  /**
   * The whole answer. After `cancel()`, or after leaving the loop, what there was until then, with `finishReason` 'aborted';
   * rejects with the signal's reason when the signal was aborted.
   */
  get result(): Promise<GenerationResult> {
    this.#call?.take(Infinity);
    return this.#result;
  }

  /** Ends the answer where it is. */
  cancel(): void {
    this.#call?.cancel();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Piece, void, undefined> {
    try {
      for (;;) {
        const piece = this.#pieces.shift();
        if (piece) {
          this.#call?.take(1);
          yield piece;
        } else if (this.#over) {
          await this.#result;
          return;
        } else {
          await new Promise<void>(resolve => { this.#wake = resolve; });
        }
      }
    } finally {
      this.cancel();
      await this.#result.catch(() => {});
    }
  }

  async #run(start: (onPiece: (piece: Piece) => void) => Call<GenerationResult>, signal: AbortSignal | undefined): Promise<GenerationResult> {
    try {
      const result = await cancellable(signal, () => this.#call = start(piece => {
        this.#pieces.push(piece);
        this.#wake();
      }));
      if (result.finishReason === 'aborted') signal?.throwIfAborted();
      return result;
    } catch (error) {
      this.#pieces.length = 0;
      throw error;
    } finally {
      this.#over = true;
      this.#wake();
    }
  }
}

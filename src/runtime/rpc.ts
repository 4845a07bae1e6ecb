/**
 * Calls between the caller's thread and the runtime worker. One call is a request, any number of events (progress, pieces
 * of text) and one reply. Events that count as items are subject to credit: the worker waits while `CREDIT` of them have
 * not been taken.
 *
 *   to the worker    {id, method, args}   {id, cancel: true}   {id, taken: n}   {end: true}
 *   from the worker  {id, event, item}    {id, result}         {id, error}      {ended: true}
 *                    {lifeline}: of a thread that it computes with
 */
import { EngineCrashError } from '../errors.js';
import { onEnd, workersGone, type Lifeline, type Peer, type WorkerPeer } from '../platform/platform.js';
import { fromWire, toWire, type WireError } from './wire-error.js';

/** Items a worker may be ahead of its consumer. */
export const CREDIT = 64;

/** Milliseconds a worker has for ending its own workers: Deno ends none of those that wait. */
const GRACE = 500;

/** Method name -> its argument, result and event. */
export type Methods = Record<string, { args: unknown; result: unknown; event: unknown }>;

/** A call under way, seen by the caller. */
export interface Call<Result> {
  readonly result: Promise<Result>;
  /** Asks the worker to stop; `result` settles as the method defines it. */
  cancel(): void;
  /** Tells the worker that `count` items were consumed. */
  take(count: number): void;
}

interface Pending {
  resolve(value: unknown): void;
  reject(reason: unknown): void;
  onEvent: ((event: any) => void) | undefined;
}

export class RpcClient<M extends Methods> {
  readonly #peer: WorkerPeer;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  #closed: { reason: unknown } | undefined;
  #keepAlive: ReturnType<typeof setInterval> | undefined;
  #ended = () => {};

  constructor(peer: WorkerPeer) {
    this.#peer = peer;
    peer.onMessage(message => this.#receive(message));
    peer.onCrash(error => this.#lose(error));
  }

  call<K extends keyof M & string>(method: K, args: M[K]['args'], onEvent?: (event: M[K]['event']) => void): Call<M[K]['result']> {
    if (this.#closed) return { result: Promise.reject(this.#closed.reason), cancel() {}, take() {} };
    const id = this.#nextId++;
    const result = new Promise<M[K]['result']>((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject, onEvent });
    });
    // The worker does not keep a process alive; a call under way does.
    this.#keepAlive ??= setInterval(() => {}, 2 ** 30);
    this.#peer.post({ id, method, args });
    const send = (note: object) => { if (this.#pending.has(id)) this.#peer.post({ id, ...note }); };
    return { result, cancel: () => send({ cancel: true }), take: taken => send({ taken }) };
  }

  /** Rejects what is pending, and every later call, with `reason`; ends the worker. */
  async close(reason: unknown): Promise<void> {
    if (this.#closed) return;
    this.#refuse(reason);
    await new Promise<void>(resolve => {
      const timer = setTimeout(resolve, GRACE);
      this.#ended = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#peer.post({ end: true });
    });
    await this.#peer.terminate();
  }

  /** The same for a worker that answers no more. */
  #lose(reason: unknown): void {
    if (this.#closed) return;
    this.#refuse(reason);
    void this.#peer.terminate();
  }

  #refuse(reason: unknown): void {
    this.#closed = { reason };
    for (const { reject } of this.#pending.values()) reject(reason);
    this.#pending.clear();
    this.#release();
  }

  #receive(message: { id: number; event?: unknown; result?: unknown; error?: WireError; lifeline?: Lifeline; ended?: true }): void {
    if (message.ended) return this.#ended();
    if (message.lifeline) return onEnd(message.lifeline, () => this.#lose(new EngineCrashError('computing', new Error('one of its threads was ended from outside'))));
    const call = this.#pending.get(message.id);
    if (!call) return;
    if ('event' in message) return call.onEvent?.(message.event);
    this.#pending.delete(message.id);
    if (this.#pending.size === 0) this.#release();
    if (message.error) call.reject(fromWire(message.error));
    else call.resolve(message.result);
  }

  #release(): void {
    clearInterval(this.#keepAlive);
    this.#keepAlive = undefined;
  }
}

/** A call under way, seen by the worker. */
export interface CallContext<Event> {
  /** Aborted when the caller cancels. */
  readonly signal: AbortSignal;
  emit(event: Event): void;
  /** Emits an event that counts against the credit; resolves when there is room for another, or the call is cancelled. */
  emitItem(event: Event): Promise<void>;
}

export type Handlers<M extends Methods> = {
  [K in keyof M]: (args: M[K]['args'], context: CallContext<M[K]['event']>) => Promise<M[K]['result']>;
};

/** Answers the calls that come from `peer`. `end` comes last, when no call runs any more. */
export function serve<M extends Methods>(peer: Peer, handlers: Handlers<M>, end: () => Promise<void>): void {
  const running = new Map<number, { controller: AbortController; take(count: number): void }>();
  const calls = new Set<Promise<void>>();

  const run = async (id: number, method: string, args: unknown) => {
    const controller = new AbortController();
    const { signal } = controller;
    let ahead = 0;
    let wake = () => {};
    signal.addEventListener('abort', () => wake());
    running.set(id, { controller, take: count => { ahead -= count; wake(); } });
    const context: CallContext<unknown> = {
      signal,
      emit: event => peer.post({ id, event }),
      async emitItem(event) {
        peer.post({ id, event });
        ahead++;
        while (ahead >= CREDIT && !signal.aborted) await new Promise<void>(resolve => { wake = resolve; });
      },
    };
    try {
      peer.post({ id, result: await handlers[method]!(args, context) });
    } catch (error) {
      peer.post({ id, error: toWire(error, method) });
    } finally {
      running.delete(id);
    }
  };

  const finish = async () => {
    for (const { controller } of running.values()) controller.abort();
    await Promise.all(calls);
    await end();
    await workersGone();
    peer.post({ ended: true });
  };

  peer.onMessage((message: { id: number; method?: string; args?: unknown; cancel?: true; taken?: number; end?: true }) => {
    if (message.method) {
      const call = run(message.id, message.method, message.args);
      calls.add(call);
      void call.then(() => calls.delete(call));
    } else if (message.end) void finish();
    else if (message.cancel) running.get(message.id)?.controller.abort();
    else if (message.taken) running.get(message.id)?.take(message.taken);
  });
}

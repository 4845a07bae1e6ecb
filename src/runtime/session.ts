/** A sequence of tokens and what the engine has stored of it. */
import type { Engine, ForwardRow } from '../engine/types.js';
import { ContextFullError } from '../errors.js';
import { sinceYield, yieldToEvents } from '../platform/platform.js';
import { Queue } from './queue.js';
import type { Scores, WireScoreOptions } from './types.js';

/** The engine and the order in which sessions take turns on it. */
export interface SharedEngine {
  readonly engine: Engine;
  /** A forward pass and the reading of its logits are one task. */
  readonly turns: Queue;
  readonly context: number;
}

/** Milliseconds after which messages are let in (a request to stop, say): not after every token of a small model. */
const YIELD_MS = 10;

export class Session {
  /** Calls on one session run one after another. */
  readonly calls = new Queue();
  readonly #shared: SharedEngine;
  readonly #handle: number;
  #ids: number[] = [];
  /** Keys and values of this many first tokens are in the engine's cache. */
  #stored = 0;

  constructor(shared: SharedEngine) {
    this.#shared = shared;
    this.#handle = shared.engine.openSession();
  }

  get ids(): readonly number[] {
    return this.#ids;
  }

  /** No room for one more token. */
  get full(): boolean {
    return this.#ids.length >= this.#shared.context;
  }

  /** Makes `ids` the session's tokens; what it shares with those before stays computed. */
  replace(ids: readonly number[]): void {
    this.#checkRoom(ids.length);
    let common = 0;
    while (common < this.#stored && common < ids.length && this.#ids[common] === ids[common]) common++;
    this.#ids = [...ids];
    this.#stored = common;
  }

  push(...ids: readonly number[]): void {
    this.#checkRoom(this.#ids.length + ids.length);
    this.#ids.push(...ids);
  }

  truncate(position: number): void {
    this.#ids.length = Math.min(position, this.#ids.length);
    this.#stored = Math.min(this.#stored, this.#ids.length);
  }

  /** How many tokens the next `read` need not compute: what is stored, but never the last one, whose logits are wanted. */
  get reusable(): number {
    return Math.min(this.#stored, this.#ids.length - 1);
  }

  /** Computes what is not stored yet. */
  async store(signal: AbortSignal): Promise<void> {
    await this.#forward(this.#stored, signal, () => false, () => {});
  }

  /** Computes what is not stored yet and calls `read` while row 0 of the engine's logits belongs to the last token. */
  async next<T>(signal: AbortSignal, read: (engine: Engine) => T): Promise<T> {
    const last = this.#ids.length - 1;
    let result: T;
    await this.#forward(this.reusable, signal, position => position === last, () => { result = read(this.#shared.engine); });
    return result!;
  }

  async score(ids: readonly number[], options: WireScoreOptions, signal: AbortSignal): Promise<Scores> {
    const { from = 0, logits = false } = options;
    const { engine } = this.#shared;
    this.replace(ids);
    const last = ids.length - 1;
    const scores: Scores = { logProbabilities: new Float64Array(last - from), ...(logits && { logits: [] }) };
    const wanted = (position: number) => position >= from && (position < last || logits);
    await this.#forward(Math.min(this.#stored, from), signal, wanted, (position, row) => {
      if (position < last) scores.logProbabilities[position - from] = engine.logProbability(row, ids[position + 1]!);
      scores.logits?.push(engine.logits(row));
    });
    return scores;
  }

  close(): void {
    this.#shared.engine.closeSession(this.#handle);
  }

  /** Runs the tokens from `begin` on, a block at a time; `read` sees the logits of each row that wanted them. */
  async #forward(begin: number, signal: AbortSignal, wantLogits: (position: number) => boolean, read: (position: number, row: number) => void): Promise<void> {
    const { engine, turns } = this.#shared;
    this.#stored = begin;
    while (this.#stored < this.#ids.length) {
      const rows: ForwardRow[] = this.#ids.slice(this.#stored, this.#stored + engine.maxRows).map((token, i) => {
        const position = this.#stored + i;
        return { session: this.#handle, position, token, wantLogits: wantLogits(position) };
      });
      await turns.run(async () => {
        signal.throwIfAborted();
        await engine.forward(rows, signal);
        this.#stored += rows.length;
        rows.filter(row => row.wantLogits).forEach(({ position }, i) => read(position, i));
      });
      if (sinceYield() >= YIELD_MS) await yieldToEvents();
    }
  }

  #checkRoom(tokens: number): void {
    if (tokens > this.#shared.context) throw new ContextFullError(tokens, this.#shared.context);
  }
}

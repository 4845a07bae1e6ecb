/** The crew over one memory: rank 0 alone, or with threads that share it. */
import { EngineCrashError } from '../errors.js';
import { cores, now, spawn, yieldToEvents, type Lifeline, type WorkerPeer } from '../platform/platform.js';
import type { CrewInit } from './crew-worker.js';
import { SLICE_MS, type Crew } from './crew.js';
import type { Member } from './member.js';
import type { ForwardRow } from './types.js';

/** The engine could run, its further threads did not start. */
export class ThreadsError extends EngineCrashError {
  constructor(cause: unknown) {
    super('the start of its threads', cause);
  }
}

/** Rounds in which numbers of threads are timed, and the last ones of them that count. */
const LEAST_ROUNDS = 5, MOST_ROUNDS = 30, TIMED_ROUNDS = 7;

export class Threads implements Crew {
  /** Threads at work. */
  active = 1;
  readonly #workers: WorkerPeer[] = [];
  /** All of them, those under way as well. */
  readonly #started: Promise<WorkerPeer>[] = [];
  readonly #member: Member;
  #rows = 1;
  /** Steps that fit into a slice of time, by number of rows: learnt while running. */
  readonly #sliceSteps = new Map<number, number>();
  #ended = false;

  constructor(member: Member) { this.#member = member; }

  /** @throws ThreadsError when not all threads are ready within `deadline` milliseconds */
  async start(threads: number, deadline: number): Promise<void> {
    const { module, memory, exports, plan: { stacks } } = this.#member;
    exports.setCores(cores());
    const ready = Array.from({ length: threads - 1 }, async (_, i) => {
      const started = spawn('crew-worker.js', { rank: i + 1, module, memory, stacks } satisfies CrewInit, { deadline });
      this.#started.push(started);
      const worker = await started;
      if (this.#ended) return;
      this.#workers.push(worker);
      await new Promise((resolve, reject) => {
        worker.onMessage(resolve);
        worker.onCrash(error => {
          this.fail();
          reject(error);
        });
      });
    });
    await inTime(Promise.all(ready), deadline);
    this.active = threads;
  }

  begin(rows: readonly ForwardRow[]): number {
    this.#rows = rows.length;
    return this.#member.begin(rows);
  }

  run(step: number, steps: number): number {
    const n = Math.min(this.#sliceSteps.get(this.#rows) ?? 9, steps - step), start = now();
    if (!this.#member.exports.run(step, step + n, this.active)) throw new Error('a thread died');
    this.#sliceSteps.set(this.#rows, Math.max(1, Math.min(4 * n, Math.floor(n * SLICE_MS / Math.max(now() - start, 0.01)))));
    return step + n;
  }

  /** Times a few layers of a decode step with 1 … `most` threads and keeps the fastest: more threads can be slower. @returns median seconds */
  async settle(most: number): Promise<Record<number, number>> {
    this.#member.growTo(0);
    const row = { session: 0, position: 0, token: 0, wantLogits: false }, steps = 1 + 9 * 4;
    const timings = new Map<number, number[]>(Array.from({ length: most }, (_, i) => [i + 1, []])), start = now();
    let seconds: Record<number, number> = {};
    // For its first tens of milliseconds a runtime compiles and collects garbage on the cores that are timed: all threads win once it is over.
    for (let round = 0; round < LEAST_ROUNDS || (fastest(seconds, 0.9) !== most && round < MOST_ROUNDS && now() - start < 200); round++) {
      for (const [threads, times] of timings) {
        this.active = threads;
        const before = now(), end = Math.min(this.begin([row]), steps);
        for (let step = 0; step < end;) step = this.run(step, end);
        times.push(now() - before);
        if (times.length > TIMED_ROUNDS) times.shift();
      }
      seconds = mediansOf(timings);
      await yieldToEvents();
    }
    this.active = fastest(seconds);
    return seconds;
  }

  fail(): void { this.#member.exports.fail(); }

  get lifelines(): Lifeline[] {
    return this.#workers.flatMap(({ lifeline }) => lifeline ?? []);
  }

  async end(): Promise<void> {
    this.#ended = true;
    this.#member.exports.dismiss();
    await Promise.all(this.#started.map(started => started.then(worker => worker.terminate(), () => {})));
  }
}

/** @throws ThreadsError when `ready` fails or takes more than `deadline` milliseconds */
export async function inTime<T>(ready: Promise<T>, deadline: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not ready after ${deadline / 1000} s`)), deadline);
  });
  return Promise.race([ready, late]).catch(error => { throw new ThreadsError(error); }).finally(() => clearTimeout(timer));
}

/** Median seconds by number of threads, from milliseconds. */
export const mediansOf = (timings: ReadonlyMap<number, number[]>): Record<number, number> =>
  Object.fromEntries([...timings].map(([threads, times]) => [threads, [...times].sort((a, b) => a - b)[times.length >> 1]! / 1000]));

/** Seconds of a pass that no timing of passes one after another shows: between two tokens threads fall asleep, and the caller wants a core. */
const WAKING_S = 50e-6;

/** More threads must be worth it, `least` times as long at most, or the cores are better left to others. */
export function fastest(seconds: Record<number, number>, least = 0.98): number {
  const entries = Object.entries(seconds);
  let best = entries[0]!;
  for (const candidate of entries) if (candidate[1] + WAKING_S < best[1] * least) best = candidate;
  return Number(best[0]);
}

/** The workers that compute beside rank 0. */
import { EngineCrashError } from '../errors.js';
import { spawn, type WorkerPeer } from '../platform/platform.js';
import type { CrewInit } from './crew-worker.js';

/** The engine could run, its further threads did not start. */
export class ThreadsError extends EngineCrashError {
  constructor(cause: unknown) {
    super('the start of its threads', cause);
  }
}

export class Threads {
  readonly #workers: WorkerPeer[] = [];
  #ended = false;

  /**
   * Starts threads 1 … count; `onCrash` is called when one dies later.
   * @throws ThreadsError when not all are ready within `deadline` milliseconds
   */
  async start(count: number, init: Omit<CrewInit, 'role' | 'rank'>, deadline: number, onCrash: () => void): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not ready after ${deadline / 1000} s`)), deadline);
    });
    const ready = Array.from({ length: count }, async (_, i) => {
      const worker = await spawn('worker.js', { role: 'crew', rank: i + 1, ...init } satisfies CrewInit, { deadline });
      if (this.#ended) return worker.terminate();
      this.#workers.push(worker);
      await new Promise((resolve, reject) => {
        worker.onMessage(resolve);
        worker.onCrash(error => {
          onCrash();
          reject(error);
        });
      });
    });
    await Promise.race([Promise.all(ready), late]).catch(error => { throw new ThreadsError(error); }).finally(() => clearTimeout(timer));
  }

  async end(): Promise<void> {
    this.#ended = true;
    await Promise.all(this.#workers.map(worker => worker.terminate()));
  }
}

/** Every worker that Node starts from now on, in order; whoever looks may empty the list. */
import { createRequire, syncBuiltinESMExports } from 'node:module';
import type { Worker } from 'node:worker_threads';

export function startedWorkers(): Worker[] {
  const threads: typeof import('node:worker_threads') = createRequire(import.meta.url)('node:worker_threads');
  const workers: Worker[] = [], Original = threads.Worker;
  threads.Worker = class extends Original {
    constructor(...args: ConstructorParameters<typeof Worker>) { super(...args); workers.push(this); }
  };
  syncBuiltinESMExports();
  return workers;
}

/** A quantiser's worker: takes tasks of one job after another. It is started with the module, the memory and its places in it. */
import { connect } from '../platform/platform.js';

export interface Start { module: WebAssembly.Module; memory: WebAssembly.Memory; stack: number; scratch: number }
/** Tasks 0 … `tasks` − 1 of an exported function; the next free one is counted at address `ticket`. */
export interface Job { id: number; name: string; args: readonly number[]; tasks: number; ticket: number }
export type Reply = { id: number } | { id: number; error: string };

connect<Start>(({ module, memory, stack, scratch }, parent) => {
  const exports = new WebAssembly.Instance(module, { env: { memory } }).exports as Record<string, (...args: number[]) => unknown>;
  exports.setStack!(stack);

  parent.onMessage(({ id, name, args, tasks, ticket }: Job) => {
    try {
      // A new view every time: the memory may have grown.
      const tickets = new Int32Array(memory.buffer, ticket, 1);
      for (let task = Atomics.add(tickets, 0, 1); task < tasks; task = Atomics.add(tickets, 0, 1)) exports[name]!(...args, task, scratch);
      parent.post({ id } satisfies Reply);
    } catch (error) {
      parent.post({ id, error: String(error) } satisfies Reply);
    }
  });
});

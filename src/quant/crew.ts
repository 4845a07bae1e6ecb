/** The quantiser's wasm: one shared memory, and workers that take the tasks of a job (cpp/quant/abi.cc). */
import { EngineCrashError, OutOfMemoryError } from '../errors.js';
import { STACK_BYTES } from '../generated/layout.js';
import { readAsset, spawn, type WorkerPeer } from '../platform/platform.js';
import type { Reply } from './worker.js';

const PAGE = 65536, LIMIT = 65536 * PAGE;
const roundUp = (value: number, unit: number) => Math.ceil(value / unit) * unit;

/** The module before there are workers: what its functions need is asked with structs at `free`. */
export interface Bare { functions: Record<string, (...args: number[]) => number>; memory: WebAssembly.Memory; free: number }
type Functions = Bare['functions'];

export class Crew {
  private top: number;
  private jobs = 0;
  private broken: unknown;
  private waiting: { id: number; left: number; resolve(): void; reject(reason: unknown): void } | undefined;

  private constructor(readonly memory: WebAssembly.Memory, private readonly functions: Functions, private readonly workers: WorkerPeer[],
    private readonly ticket: number, top: number) {
    this.top = top;
    for (const worker of workers) {
      worker.onCrash(error => this.fail(error));
      worker.onMessage((reply: Reply) => {
        const { waiting } = this;
        if (waiting?.id !== reply.id) return;
        if ('error' in reply) return this.fail(new EngineCrashError('quantising', reply.error));
        if (--waiting.left === 0) {
          this.waiting = undefined;
          waiting.resolve();
        }
      });
    }
  }

  /** `scratchBytes`: what the module says that its functions need, for each thread. */
  static async start(threads: number, scratchBytes: (bare: Bare) => number): Promise<Crew> {
    const module = await WebAssembly.compile(await readAsset('wasm/lutra-quantize.wasm'));
    const memory = new WebAssembly.Memory({ initial: 64, maximum: LIMIT / PAGE, shared: true });
    const { exports } = new WebAssembly.Instance(module, { env: { memory } });
    const functions = exports as Functions, ticket = roundUp((exports.__heap_base as WebAssembly.Global).value as number, 64), first = ticket + 64;
    const perThread = STACK_BYTES + roundUp(scratchBytes({ functions, memory, free: first }), 64);
    const end = first + threads * perThread;
    grow(memory, end);
    const workers = await Promise.all(Array.from({ length: threads }, (_, i) => {
      const stack = first + i * perThread + STACK_BYTES;
      return spawn('quant-worker.js', { module, memory, stack, scratch: stack });
    }));
    return new Crew(memory, functions, workers, ticket, end);
  }

  /** All tasks of an exported function; the last two arguments, task and scratch, are the crew's. */
  async run(name: string, args: readonly number[], tasks: number): Promise<void> {
    if (this.broken !== undefined) throw this.broken;
    if (tasks === 0) return;
    Atomics.store(new Int32Array(this.memory.buffer, this.ticket, 1), 0, 0);
    const id = this.jobs++, hands = this.workers.slice(0, tasks);
    await new Promise<void>((resolve, reject) => {
      this.waiting = { id, left: hands.length, resolve, reject };
      for (const worker of hands) worker.post({ id, name, args, tasks, ticket: this.ticket });
    });
  }

  /** A function that has no tasks, in this thread. */
  call(name: string, ...args: number[]): number { return this.functions[name]!(...args) >>> 0; }

  /** Zeroed or used memory, at a multiple of 64. */
  take(bytes: number): number {
    const at = this.top;
    this.top = roundUp(at + bytes, 64);
    grow(this.memory, this.top);
    return at;
  }
  /** Everything that `work` takes is free again afterwards. */
  async within<T>(work: () => Promise<T>): Promise<T> {
    const { top } = this;
    try {
      return await work();
    } finally {
      this.top = top;
    }
  }

  floats(at: number, count: number): Float32Array<SharedArrayBuffer> { return new Float32Array(this.memory.buffer as unknown as SharedArrayBuffer, at, count); }
  doubles(at: number, count: number): Float64Array<SharedArrayBuffer> { return new Float64Array(this.memory.buffer as unknown as SharedArrayBuffer, at, count); }
  words(at: number, count: number): Uint32Array<SharedArrayBuffer> { return new Uint32Array(this.memory.buffer as unknown as SharedArrayBuffer, at, count); }
  bytes(at: number, count: number): Uint8Array<SharedArrayBuffer> { return new Uint8Array(this.memory.buffer as unknown as SharedArrayBuffer, at, count); }
  get view(): DataView { return new DataView(this.memory.buffer); }

  /** Ends the workers; what is under way rejects with `reason`. */
  async close(reason: unknown = new Error('the crew was dismissed')): Promise<void> {
    this.fail(reason);
    await Promise.all(this.workers.map(worker => worker.terminate()));
  }

  private fail(reason: unknown): void {
    this.broken ??= reason;
    this.waiting?.reject(this.broken);
    this.waiting = undefined;
  }
}

function grow(memory: WebAssembly.Memory, end: number): void {
  const missing = end - memory.buffer.byteLength;
  if (missing <= 0) return;
  try {
    memory.grow(Math.ceil(missing / PAGE));
  } catch {
    throw new OutOfMemoryError(end, Math.min(LIMIT, memory.buffer.byteLength), 'Use fewer threads, or a machine with more memory.');
  }
}

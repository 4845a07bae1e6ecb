/** The engine of one model: memory, weights, crew, passes. Lives in a worker, because it blocks while it computes. */
import { BadArgumentError, BadModelFileError, DisposedError, EngineCrashError, OutOfMemoryError, UnsupportedFormatError } from '../errors.js';
import { ROPE_DIVISORS } from '../formats/packed.js';
import type { ByteSource, PackedHeader } from '../formats/types.js';
import { MAX_ROWS, sizeOfRow, writeRow, writeSampling } from '../generated/layout.js';
import { cores, now, whyNotShared, yieldToEvents } from '../platform/platform.js';
import { chooseCrew, type CrewChoice } from './crew.js';
import { chooseVariant, compile, instantiate, type Exports } from './instance.js';
import { MAX_RECENT, PAGE, align, planMemory, writeDescriptors, type MemoryPlan } from './plan.js';
import { Threads, ThreadsError } from './threads.js';
import type { Engine, EngineInfo, EngineOptions, ForwardRow, SamplingOptions } from './types.js';

const MAX_MEMORY = 65536 * PAGE;
/** Bytes read at once, and reads under way: pages of memory that is new are cleared while they are filled, on more than one core. */
const READ_CHUNK = 8 << 20, READ_LANES = 4;
/** Milliseconds between two looks at the event loop while computing. */
const SLICE_MS = 15;
const CREW_DEADLINE_MS = 20_000;

export async function createEngine(source: ByteSource, header: PackedHeader, options: EngineOptions): Promise<LocalEngine> {
  const { config } = header;
  checkRunnable(source.name, header);
  if (!(options.context >= 1 && options.context <= config.contextLength)) {
    throw new BadArgumentError('context', `${options.context} is not in 1..${config.contextLength}`, 'The model was trained for no more positions.');
  }
  if (config.slidingWindow !== null && options.context > config.slidingWindow) {
    throw new BadArgumentError('context', `${options.context} is more than the model's sliding window of ${config.slidingWindow}`, 'Attention beyond the window is not there yet: use a context up to it.');
  }
  const choice = chooseCrew(options, cores(), whyNotShared());
  try {
    return await startEngine(source, header, options, choice);
  } catch (error) {
    if (!(error instanceof ThreadsError) || options.crew === 'shared') throw error;
    return startEngine(source, header, options, { crew: 'single', threads: 1, reason: `the threads did not start: ${error.message}` });
  }
}

async function startEngine(source: ByteSource, header: PackedHeader, options: EngineOptions, { crew: kind, threads: wanted, reason }: CrewChoice): Promise<LocalEngine> {
  const shared = kind === 'shared';
  const variant = chooseVariant(options.variant, shared);
  const module = await compile(variant);

  const plan = planMemory(header, options.context);
  const workspaceBytes = measureWorkspace(module, shared, plan, header, options);
  const kvBase = align(plan.workspace + workspaceBytes);
  const fixed = align(kvBase, PAGE), maximum = align(kvBase + options.maxSessions * plan.kvBytes, PAGE);
  if (maximum > MAX_MEMORY) {
    throw new OutOfMemoryError(maximum, MAX_MEMORY, `Use a smaller context than ${options.context}, fewer sessions than ${options.maxSessions}, or fewer bits.`);
  }
  let memory: WebAssembly.Memory;
  try {
    memory = new WebAssembly.Memory({ initial: fixed / PAGE, maximum: maximum / PAGE, shared });
  } catch {
    throw new OutOfMemoryError(maximum, 0, 'This JavaScript engine refused to reserve it. Close other programs, or use a smaller model or context.');
  }
  const exports = instantiate(module, memory);
  writeDescriptors(memory, plan, header, options.context, options.reference);
  exports.bind(plan.model, plan.workspace);

  // The crew gets ready while the weights stream in.
  const crew = new Threads();
  const dismiss = async () => {
    exports.dismiss();
    await crew.end();
  };
  try {
    const init = { module, memory, stacks: plan.stacks };
    const ready = crew.start(wanted - 1, init, options.startDeadline ?? CREW_DEADLINE_MS, () => exports.fail());
    let failure: unknown;
    ready.catch(error => { failure = error; });
    // No need to read all weights for a crew that will not be.
    await readWeights(source, header, memory, plan, options, () => { if (failure) throw failure; });
    checkFinite(source.name, header, memory, plan);
    await ready;
    const engine = new LocalEngine(memory, exports, plan, header, options, {
      wasm: variant, crew: kind, crewReason: reason, threads: wanted, threadTimings: null,
      level: options.reference ? 'reference' : 'kernels', kernels: kernelNames(memory, exports, plan), kvType: 'f32',
      memoryBytes: { weights: plan.weightBytes, workspace: workspaceBytes, kvPerSession: plan.kvBytes },
    }, dismiss);
    if (options.threads === 'auto' && shared) await engine.settleThreads(wanted);
    return engine;
  } catch (error) {
    await dismiss();
    throw error;
  }
}

/** What the C++ code takes for granted. */
function checkRunnable(path: string, { config, linears }: PackedHeader): void {
  const refuse = (field: string, problem: string) => {
    throw new UnsupportedFormatError(path, field, problem, 'Pack the model with a version of this package that supports it.');
  };
  if (config.headDim % 8 !== 0) refuse('config.headDim', `${config.headDim} is no multiple of 8`);
  if (config.nHeads % config.nHeadsKv !== 0) refuse('config.nHeadsKv', `${config.nHeadsKv} does not divide ${config.nHeads} heads`);
}

/** Asks the module itself, over a memory that holds the descriptors only. */
function measureWorkspace(module: WebAssembly.Module, shared: boolean, plan: MemoryPlan, header: PackedHeader, options: EngineOptions): number {
  const pages = align(plan.stacks, PAGE) / PAGE;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
  const exports = instantiate(module, memory);
  writeDescriptors(memory, { ...plan, parts: [] }, header, options.context, options.reference);
  const bytes = exports.workspaceBytes(plan.model) >>> 0;
  if (bytes === 0) {
    throw new UnsupportedFormatError('model', 'linears', 'there is no kernel for one of its formats', 'Pack the model again with this version.');
  }
  return bytes;
}

async function readWeights(source: ByteSource, header: PackedHeader, memory: WebAssembly.Memory, plan: MemoryPlan, { onProgress, signal }: EngineOptions, check: () => void): Promise<void> {
  if (source.stream) {
    const end = header.dataOffset + plan.weightBytes;
    const view = (at: number, length: number) => at >= header.dataOffset && at < end ? new Uint8Array(memory.buffer, plan.weights + at - header.dataOffset, length) : undefined;
    return source.stream({
      write(bytes, at) {
        check();
        view(at, bytes.length)?.set(bytes);
      },
      place(at, length) {
        check();
        return memory.buffer instanceof ArrayBuffer ? undefined : view(at, length);
      },
    });
  }
  let next = 0, done = 0;
  const lane = async () => {
    while (next < plan.weightBytes) {
      signal?.throwIfAborted();
      check();
      const at = next, length = Math.min(READ_CHUNK, plan.weightBytes - at);
      next += length;
      await source.read(new Uint8Array(memory.buffer, plan.weights + at, length), header.dataOffset + at);
      onProgress?.(done += length, plan.weightBytes);
    }
  };
  // All have ended before anybody closes the source.
  const results = await Promise.allSettled(Array.from({ length: READ_LANES }, () => lane().catch(error => {
    next = plan.weightBytes;
    throw error;
  })));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

/** Norms and row scales are few, and one NaN among them silences a model without a word. */
function checkFinite(path: string, header: PackedHeader, memory: WebAssembly.Memory, plan: MemoryPlan): void {
  for (const [name, { dtype, begin, end }] of Object.entries(header.tensors)) {
    if (dtype === 'U8') continue;
    const at = plan.weights + begin, bytes = end - begin;
    const finite = dtype === 'F32' ? new Float32Array(memory.buffer, at, bytes / 4).every(Number.isFinite)
      : new Uint16Array(memory.buffer, at, bytes / 2).every(half => (half & 0x7c00) !== 0x7c00);
    if (!finite) throw new BadModelFileError(path, name, 'holds a value that is not finite');
    const slow = name === ROPE_DIVISORS && !new Float32Array(memory.buffer, at, header.config.headDim / 2).every(value => value >= 1e-3);
    if (slow) throw new BadModelFileError(path, name, 'holds a value below 0.001');
  }
}

function kernelNames(memory: WebAssembly.Memory, exports: Exports, plan: MemoryPlan): Record<string, number> {
  const names: Record<string, number> = {};
  const bytes = new Uint8Array(memory.buffer);
  for (const part of plan.parts) {
    let at = exports.kernelName(part), name = '';
    while (bytes[at]) name += String.fromCharCode(bytes[at++]!);
    names[name] = (names[name] ?? 0) + 1;
  }
  return names;
}

/** Beyond the interface: what tests look at. */
export class LocalEngine implements Engine {
  readonly maxRows = MAX_ROWS;
  /** KV slots by session: true while open. Slots are reused, memory is never given back before dispose. */
  private slots: boolean[] = [];
  private readonly kvBase: number;
  private nWanted = 0;
  /** Steps that fit into a slice, by number of rows: learnt while running. */
  private readonly sliceSteps = new Map<number, number>();
  private lastYield = now();
  private state: 'ready' | 'broken' | 'disposed' = 'ready';

  constructor(
    readonly memory: WebAssembly.Memory, private readonly exports: Exports, readonly plan: MemoryPlan,
    private readonly header: PackedHeader, private readonly options: EngineOptions, readonly info: EngineInfo, private readonly dismiss: () => Promise<void>,
  ) {
    this.kvBase = align(plan.workspace + info.memoryBytes.workspace);
  }

  openSession(): number {
    this.check();
    let session = this.slots.indexOf(false);
    if (session < 0) session = this.slots.length;
    if (session >= this.options.maxSessions) {
      throw new BadArgumentError('maxSessions', `all ${this.options.maxSessions} sessions are in use`, 'Dispose a session, or load the model with a larger `maxSessions`.');
    }
    const end = this.kvAddress(session + 1), missing = end - this.memory.buffer.byteLength;
    if (missing > 0) {
      try {
        this.memory.grow(Math.ceil(missing / PAGE));
      } catch {
        throw new OutOfMemoryError(end, this.memory.buffer.byteLength, 'Close other programs, or use a smaller context.');
      }
    }
    this.slots[session] = true;
    return session;
  }

  closeSession(session: number): void {
    if (session in this.slots) this.slots[session] = false;
  }

  async forward(rows: readonly ForwardRow[], signal?: AbortSignal): Promise<void> {
    this.check();
    signal?.throwIfAborted();
    await this.pass(rows, this.info.threads, Infinity, signal);
  }

  /** Runs the first `limit` steps of a pass over `rows`. */
  private async pass(rows: readonly ForwardRow[], threads: number, limit: number, signal?: AbortSignal): Promise<void> {
    this.writeRows(rows);
    const steps = Math.min(this.guard('forward', () => this.exports.begin(this.plan.rows, rows.length)), limit);
    for (let step = 0; step < steps;) {
      const n = Math.min(this.sliceSteps.get(rows.length) ?? 9, steps - step), start = now();
      if (!this.guard('forward', () => this.exports.run(step, step + n, threads))) this.break('forward', new Error('a thread died'));
      step += n;
      const end = now();
      this.sliceSteps.set(rows.length, Math.max(1, Math.min(4 * n, Math.floor(n * SLICE_MS / Math.max(end - start, 0.01)))));
      if (end - this.lastYield >= SLICE_MS) {
        await yieldToEvents();
        this.lastYield = now();
        signal?.throwIfAborted();
        this.check();
      }
    }
  }

  private writeRows(rows: readonly ForwardRow[]): void {
    const { vocabSize } = this.header.config;
    if (rows.length < 1 || rows.length > MAX_ROWS) throw new BadArgumentError('rows', `${rows.length} is not in 1..${MAX_ROWS}`);
    const view = new DataView(this.memory.buffer);
    this.nWanted = 0;
    rows.forEach(({ session, position, token, wantLogits }, i) => {
      if (!this.slots[session]) throw new DisposedError('session');
      if (!(Number.isInteger(position) && position >= 0 && position < this.options.context)) throw new BadArgumentError('position', `${position} is not in 0..${this.options.context - 1}`);
      if (!(Number.isInteger(token) && token >= 0 && token < vocabSize)) throw new BadArgumentError('token', `${token} is not in 0..${vocabSize - 1}`);
      if (wantLogits) this.nWanted++;
      writeRow(view, this.plan.rows + i * sizeOfRow, { kv: this.kvAddress(session), position, token, wantLogits: wantLogits ? 1 : 0 });
    });
  }

  logits(i: number): Float32Array {
    this.checkLogits(i);
    return new Float32Array(this.memory.buffer, this.exports.logits(i) >>> 0, this.header.config.vocabSize).slice();
  }

  sample(i: number, options: SamplingOptions, step: number, recent: readonly number[], bias?: Float32Array): number {
    this.checkLogits(i);
    const { vocabSize } = this.header.config, ids = recent.slice(-MAX_RECENT);
    new Uint32Array(this.memory.buffer, this.plan.recent, ids.length).set(ids);
    if (bias) {
      if (bias.length !== vocabSize) throw new BadArgumentError('bias', `has ${bias.length} values, the vocabulary ${vocabSize}`);
      new Float32Array(this.memory.buffer, this.plan.bias, vocabSize).set(bias);
    }
    writeSampling(new DataView(this.memory.buffer), this.plan.sampling, {
      ...options, nRecent: ids.length, recent: this.plan.recent, bias: bias ? this.plan.bias : 0, seed: BigInt.asUintN(64, options.seed), step: BigInt(step),
    });
    return this.exports.sample(i, this.plan.sampling) >>> 0;
  }

  logProbability(i: number, token: number): number {
    this.checkLogits(i);
    return this.exports.logProbability(i, token);
  }

  hashLogits(i: number, hash: bigint): bigint {
    this.checkLogits(i);
    return BigInt.asUintN(64, this.exports.hashLogits(i, hash));
  }

  /** Times a few layers of a decode step with 1 … most threads and keeps the fastest: more threads can be slower. */
  async settleThreads(most: number): Promise<void> {
    const session = this.openSession(), row = { session, position: 0, token: 0, wantLogits: false };
    const timings = new Map<number, number[]>(Array.from({ length: most }, (_, i) => [i + 1, []]));
    const steps = 1 + 9 * 4, start = now();
    for (let round = -2; round < 7 && (round < 3 || now() - start < 200); round++) {
      for (const [threads, times] of timings) {
        const before = now();
        await this.pass([row], threads, steps);
        if (round >= 0) times.push(now() - before); // the first rounds warm up
      }
    }
    this.closeSession(session);
    const medians = [...timings].map(([threads, times]) => [threads, times.sort((a, b) => a - b)[times.length >> 1]! / 1000] as const);
    // A thread more must be worth it: two per cent, or the core is better left to others.
    let best = medians[0]!;
    for (const candidate of medians) if (candidate[1] < best[1] * 0.98) best = candidate;
    this.info.threads = best[0];
    this.info.threadTimings = Object.fromEntries(medians);
  }

  async dispose(): Promise<void> {
    if (this.state === 'disposed') return;
    this.state = 'disposed';
    await this.dismiss();
  }

  /** The KV cache of a session, as it lies in memory (kvOf in cpp/model/forward.cc); a view, until memory grows. */
  kv(session: number): Float32Array {
    return new Float32Array(this.memory.buffer, this.kvAddress(session), this.plan.kvBytes / 4);
  }

  private kvAddress(session: number): number {
    return this.kvBase + session * this.plan.kvBytes;
  }

  private checkLogits(i: number): void {
    this.check();
    if (!(Number.isInteger(i) && i >= 0 && i < this.nWanted)) throw new BadArgumentError('i', `${i} is not in 0..${this.nWanted - 1}`, 'Only rows of the last pass that wanted logits have them.');
  }

  private check(): void {
    if (this.state === 'disposed') throw new DisposedError('model');
    if (this.state === 'broken') throw new EngineCrashError('an earlier call');
  }

  private guard<T>(operation: string, call: () => T): T {
    try {
      return call();
    } catch (error) {
      return this.break(operation, error);
    }
  }

  private break(operation: string, cause: unknown): never {
    this.state = 'broken';
    this.exports.fail();
    throw new EngineCrashError(operation, cause);
  }
}

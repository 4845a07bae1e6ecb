/** The engine of one model: memory, weights, crew, passes. Lives in a worker, because it blocks while it computes. */
import { BadArgumentError, DisposedError, EngineCrashError, OutOfMemoryError, UnsupportedFormatError } from '../errors.js';
import type { ByteSource, PackedHeader } from '../formats/types.js';
import { MAX_ROWS, MAX_THREADS, writeSampling } from '../generated/layout.js';
import { collectGarbage, cores, sinceYield, whyNotShared, yieldToEvents } from '../platform/platform.js';
import { chooseCrew, SLICE_MS, type Crew, type CrewChoice } from './crew.js';
import { chooseVariant, compile, type Exports } from './instance.js';
import { MAX_MEMORY, Member, layOut, type MemberLayout, type MemberOptions } from './member.js';
import { MAX_RECENT, kvTypeFor, type MemoryPlan } from './plan.js';
import { PrivateCrew } from './private.js';
import { fillForProbe, probeHeader, timePasses } from './probe.js';
import { whole } from './slices.js';
import { Threads, ThreadsError, fastest, mediansOf } from './threads.js';
import type { Engine, EngineInfo, EngineOptions, ForwardRow, KvTypeName, SamplingOptions } from './types.js';
import { holderOf, loadWeights } from './weights.js';

const CREW_DEADLINE_MS = 20_000;
/** Seconds of a layer below which sharing it cannot pay: it takes two exchanges or more. */
const LEAST_LAYER_S = 100e-6;

type SettledOptions = EngineOptions & { kvType: KvTypeName };

export async function createEngine(source: ByteSource, header: PackedHeader, wanted: EngineOptions): Promise<LocalEngine> {
  const options: SettledOptions = { ...wanted, kvType: wanted.kvType ?? kvTypeFor(header) };
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
    if (options.crew !== undefined && options.crew !== 'auto') throw error;
    if (error instanceof ThreadsError) return startEngine(source, header, options, { crew: 'single', threads: 1, reason: `${choice.reason}; they did not start: ${error.message}` });
    // Too much for one memory; but whoever asks for one thread gets no more.
    if (!(error instanceof OutOfMemoryError && error.available === MAX_MEMORY && choice.crew !== 'private' && options.threads !== 1)) throw error;
    return startPrivate(source, header, options, { crew: 'private', threads: Math.max(2, choice.threads), reason: `one memory holds 4 GiB, the model needs ${(error.needed / 2 ** 30).toFixed(1)}` });
  }
}

const startEngine = (source: ByteSource, header: PackedHeader, options: SettledOptions, choice: CrewChoice): Promise<LocalEngine> =>
  (choice.crew === 'private' ? startPrivate : startThreads)(source, header, options, choice);

async function startThreads(source: ByteSource, header: PackedHeader, options: SettledOptions, { crew: kind, threads: wanted, reason }: CrewChoice): Promise<LocalEngine> {
  const shared = kind === 'shared', variant = chooseVariant(options.variant, shared);
  const member = new Member(await compile(variant), { ...memberOptions(source, header, options), slice: whole }, shared);
  const crew = new Threads(member);
  try {
    const start = () => crew.start(wanted, options.startDeadline ?? CREW_DEADLINE_MS);
    // The crew gets ready while weights are read. Where they are packed, it comes after the workers that do that: each takes memory.
    const ready = source.stream ? undefined : start();
    let failure: unknown;
    ready?.catch(error => { failure = error; });
    // No need to read all weights for a crew that will not be.
    await loadWeights(source, header, [holderOf(member)], options, () => { if (failure) throw failure; });
    member.checkFinite();
    if (source.stream) await collectGarbage(); // of packing, before each thread takes its memory
    await (ready ?? start());
    if (options.onThread) crew.lifelines.forEach(options.onThread);
    const threadTimings = options.threads === 'auto' && shared ? await crew.settle(wanted) : null;
    return new LocalEngine(member, crew, {
      ...infoOf([member.layout], member, options), wasm: variant, crew: kind, crewReason: reason, threads: crew.active, threadTimings,
    });
  } catch (error) {
    await crew.end();
    throw error;
  }
}

async function startPrivate(source: ByteSource, header: PackedHeader, options: SettledOptions, { threads: wanted, reason }: CrewChoice): Promise<LocalEngine> {
  const variant = chooseVariant(options.variant, false), module = await compile(variant), given = memberOptions(source, header, options);
  const layouts = (ranks: number) => Array.from({ length: ranks }, (_, rank) => layOut(module, { ...given, slice: { rank, ranks } }));
  const needs = (ranks: number) => Math.max(...layouts(ranks).map(({ maximum }) => maximum));
  let least = 1;
  while (least < MAX_THREADS && needs(least) > MAX_MEMORY) least++;
  const first = options.crew === 'private' ? Math.max(2, least) : least;
  const numbers = options.threads === 'auto' ? [1, 2, 4, 8].filter(n => n >= first && n <= wanted) : [wanted];
  if (numbers.length === 0) numbers.push(first);
  if (needs(numbers.at(-1)!) > MAX_MEMORY) {
    throw new OutOfMemoryError(needs(numbers.at(-1)!), MAX_MEMORY, `Use a smaller context than ${options.context}, fewer sessions than ${options.maxSessions}, fewer bits, or more threads than ${numbers.at(-1)}.`);
  }

  const crew = new PrivateCrew(module, options.startDeadline ?? CREW_DEADLINE_MS);
  try {
    const timings = numbers.length > 1 ? await settle(crew, given, numbers) : null, ranks = timings ? fastest(timings) : numbers[0]!;
    if (ranks === 1) {
      await crew.end();
      const engine = await startThreads(source, header, options, { crew: 'single', threads: 1, reason: `${reason}; one alone is the fastest` });
      engine.info.threadTimings = timings;
      return engine;
    }
    const member = await crew.open(given, ranks);
    await crew.dismissIdle();
    await loadWeights(source, header, crew.holders(), options, () => {});
    member.checkFinite();
    await crew.everybody(() => ({ check: true }));
    return new LocalEngine(member, crew, {
      ...infoOf(layouts(ranks), member, options), wasm: variant, crew: 'private', crewReason: reason, threads: ranks, threadTimings: timings,
    });
  } catch (error) {
    await crew.end();
    throw error;
  }
}

/** Median seconds of a few layers by number of members; more are tried while they are worth it. */
async function settle(crew: PrivateCrew, options: Omit<MemberOptions, 'slice'>, numbers: readonly number[]): Promise<Record<number, number>> {
  const header = probeHeader(options.header), timings = new Map<number, number[]>();
  for (const ranks of numbers) {
    const member = await crew.open({ ...options, header, maxSessions: 1 }, ranks);
    member.growTo(0);
    fillForProbe(member);
    await crew.everybody(() => ({ fill: true }));
    timings.set(ranks, await timePasses(crew));
    const seconds = mediansOf(timings);
    if (fastest(seconds) !== ranks || seconds[ranks]! < LEAST_LAYER_S * header.config.nLayers) break;
  }
  return mediansOf(timings);
}

const memberOptions = (source: ByteSource, header: PackedHeader, { context, kvType, maxSessions, reference }: SettledOptions): Omit<MemberOptions, 'slice'> =>
  ({ name: source.name, header, context, kvType, maxSessions, reference });

/** `layouts`: of all memories. */
function infoOf(layouts: readonly MemberLayout[], member: Member, { reference, kvType }: SettledOptions): Pick<EngineInfo, 'level' | 'kernels' | 'kvType' | 'memoryBytes'> {
  const sum = (bytes: (layout: MemberLayout) => number) => layouts.reduce((total, layout) => total + bytes(layout), 0);
  return {
    level: reference ? 'reference' : 'kernels', kernels: member.kernelNames(), kvType,
    memoryBytes: { weights: sum(({ plan }) => plan.weightBytes), workspace: sum(({ workspaceBytes }) => workspaceBytes), kvPerSession: sum(({ plan }) => plan.kvBytes) },
  };
}

/** What the C++ code takes for granted. */
function checkRunnable(path: string, { config, linears }: PackedHeader): void {
  const refuse = (field: string, problem: string) => {
    throw new UnsupportedFormatError(path, field, problem, 'Pack the model with a version of this package that supports it.');
  };
  if (config.headDim % 8 !== 0) refuse('config.headDim', `${config.headDim} is no multiple of 8`);
  if (config.nHeads % config.nHeadsKv !== 0) refuse('config.nHeadsKv', `${config.nHeadsKv} does not divide ${config.nHeads} heads`);
}

/** Beyond the interface: what tests look at. */
export class LocalEngine implements Engine {
  readonly maxRows = MAX_ROWS;
  /** KV slots by session: true while open. Slots are reused, memory is never given back before dispose. */
  private slots: boolean[] = [];
  private nWanted = 0;
  private state: 'ready' | 'broken' | 'disposed' = 'ready';

  constructor(private readonly member: Member, readonly crew: Crew, readonly info: EngineInfo) {}

  get memory(): WebAssembly.Memory { return this.member.memory; }
  get plan(): MemoryPlan { return this.member.plan; }
  private get exports(): Exports { return this.member.exports; }
  private get options(): MemberOptions { return this.member.options; }
  private get vocabSize(): number { return this.options.header.config.vocabSize; }

  openSession(): number {
    this.check();
    let session = this.slots.indexOf(false);
    if (session < 0) session = this.slots.length;
    if (session >= this.options.maxSessions) {
      throw new BadArgumentError('maxSessions', `all ${this.options.maxSessions} sessions are in use`, 'Dispose a session, or load the model with a larger `maxSessions`.');
    }
    this.member.growTo(session);
    this.slots[session] = true;
    return session;
  }

  closeSession(session: number): void {
    if (session in this.slots) this.slots[session] = false;
  }

  async forward(rows: readonly ForwardRow[], signal?: AbortSignal): Promise<void> {
    this.check();
    signal?.throwIfAborted();
    this.checkRows(rows);
    const steps = this.guard('forward', () => this.crew.begin(rows));
    for (let step = 0; step < steps;) {
      step = await this.advance(step, steps);
      if (sinceYield() >= SLICE_MS) {
        await yieldToEvents();
        signal?.throwIfAborted();
        this.check();
      }
    }
  }

  private async advance(step: number, steps: number): Promise<number> {
    try {
      return await this.crew.run(step, steps);
    } catch (error) {
      this.check(); // disposed meanwhile?
      return this.break('forward', error);
    }
  }

  private checkRows(rows: readonly ForwardRow[]): void {
    const { vocabSize, options: { context } } = this;
    if (rows.length < 1 || rows.length > MAX_ROWS) throw new BadArgumentError('rows', `${rows.length} is not in 1..${MAX_ROWS}`);
    for (const { session, position, token } of rows) {
      if (!this.slots[session]) throw new DisposedError('session');
      if (!(Number.isInteger(position) && position >= 0 && position < context)) throw new BadArgumentError('position', `${position} is not in 0..${context - 1}`);
      if (!(Number.isInteger(token) && token >= 0 && token < vocabSize)) throw new BadArgumentError('token', `${token} is not in 0..${vocabSize - 1}`);
    }
    this.nWanted = rows.filter(row => row.wantLogits).length;
  }

  logits(i: number): Float32Array {
    this.checkLogits(i);
    return new Float32Array(this.memory.buffer, this.exports.logits(i) >>> 0, this.vocabSize).slice();
  }

  sample(i: number, options: SamplingOptions, step: number, recent: readonly number[], bias?: Float32Array): number {
    this.checkLogits(i);
    const { vocabSize } = this, ids = recent.slice(-MAX_RECENT);
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

  async dispose(): Promise<void> {
    if (this.state === 'disposed') return;
    this.state = 'disposed';
    await this.crew.end();
  }

  /** The KV cache of a session, as it lies in memory (kvOf in cpp/model/forward.cc); a view, until memory grows. */
  kv(session: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, this.member.kvAddress(session), this.plan.kvBytes);
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
    this.crew.fail();
    throw new EngineCrashError(operation, cause);
  }
}

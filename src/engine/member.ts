/** One memory of the engine and the module's instance over it: all weights, or a member's slice of them. */
import { BadModelFileError, OutOfMemoryError, UnsupportedFormatError } from '../errors.js';
import { ROPE_DIVISORS } from '../formats/packed.js';
import type { PackedHeader } from '../formats/types.js';
import { readExchange, sizeOfRow, writeRow, type ExchangeFields } from '../generated/layout.js';
import { instantiate, type Exports } from './instance.js';
import { PAGE, align, planMemory, writeDescriptors, type MemoryPlan } from './plan.js';
import type { Slice } from './slices.js';
import type { EngineOptions, ForwardRow, KvTypeName } from './types.js';

export const MAX_MEMORY = 65536 * PAGE;

/** What a memory is laid out from; crosses to other workers as it is. */
export interface MemberOptions extends Pick<EngineOptions, 'context' | 'maxSessions' | 'reference'> {
  kvType: KvTypeName;
  /** Of the model, for messages. */
  name: string;
  header: PackedHeader;
  slice: Slice;
}

export class Member {
  readonly memory: WebAssembly.Memory;
  readonly exports: Exports;
  readonly kvBase: number;
  private view: DataView;

  /**
   * @param allSessions room for all sessions at once; otherwise `growTo` makes it
   * @throws OutOfMemoryError, UnsupportedFormatError
   */
  constructor(readonly module: WebAssembly.Module, readonly options: MemberOptions, shared: boolean, readonly layout: MemberLayout = layOut(module, options, shared), allSessions = false) {
    const { plan, maximum } = layout, { header, context } = options;
    this.kvBase = align(plan.workspace + layout.workspaceBytes);
    if (maximum > MAX_MEMORY) {
      throw new OutOfMemoryError(maximum, MAX_MEMORY, `Use a smaller context than ${context}, ${options.kvType === 'f32' ? "the option kvType 'int8', " : ''}fewer sessions than ${options.maxSessions}, or fewer bits.`);
    }
    try {
      this.memory = new WebAssembly.Memory({ initial: (allSessions ? maximum : align(this.kvBase, PAGE)) / PAGE, maximum: maximum / PAGE, shared });
    } catch {
      throw new OutOfMemoryError(maximum, 0, 'This JavaScript engine refused to reserve it. Close other programs, or use a smaller model or context.');
    }
    this.exports = instantiate(module, this.memory);
    this.view = new DataView(this.memory.buffer);
    writeDescriptors(this.memory, plan, header, options);
    this.exports.bind(plan.model, plan.workspace);
  }

  get plan(): MemoryPlan { return this.layout.plan; }

  kvAddress(session: number): number { return this.kvBase + session * this.plan.kvBytes; }

  /** Makes room for sessions up to this one. @throws OutOfMemoryError */
  growTo(session: number): void {
    const end = this.kvAddress(session + 1), missing = end - this.memory.buffer.byteLength;
    if (missing <= 0) return;
    try {
      this.memory.grow(Math.ceil(missing / PAGE));
    } catch {
      throw new OutOfMemoryError(end, this.memory.buffer.byteLength, 'Close other programs, or use a smaller context.');
    }
  }

  /** Begins a pass. @returns its steps */
  begin(rows: readonly ForwardRow[]): number {
    if (this.view.buffer !== this.memory.buffer) this.view = new DataView(this.memory.buffer);
    rows.forEach(({ session, position, token, wantLogits }, i) =>
      writeRow(this.view, this.plan.rows + i * sizeOfRow, { kv: this.kvAddress(session), position, token, wantLogits: wantLogits ? 1 : 0 }));
    return this.exports.begin(this.plan.rows, rows.length);
  }

  /** Of a slice: runs the steps from `step` on up to the next exchange. @returns the step it comes before, and what it is */
  runToExchange(step: number, steps: number): { step: number; exchange: ExchangeFields | undefined } {
    let end = step, at = 0;
    while (end < steps && at === 0) at = this.exports.exchange(end++) >>> 0;
    const exchange = at === 0 ? undefined : readExchange(this.view, at);
    this.exports.run(step, end, 1);
    return { step: end, exchange };
  }

  /** Norms and row scales are few, and one NaN among them silences a model without a word. @throws BadModelFileError */
  checkFinite(): void {
    const { name: path, header } = this.options;
    for (const [name, { begin, end, at }] of this.plan.tensors) {
      const { dtype } = header.tensors[name]!, bytes = end - begin;
      if (dtype === 'U8') continue;
      const finite = dtype === 'F32' ? new Float32Array(this.memory.buffer, at, bytes / 4).every(Number.isFinite)
        : new Uint16Array(this.memory.buffer, at, bytes / 2).every(half => (half & 0x7c00) !== 0x7c00);
      if (!finite) throw new BadModelFileError(path, name, 'holds a value that is not finite');
      const slow = name === ROPE_DIVISORS && !new Float32Array(this.memory.buffer, at, header.config.headDim / 2).every(value => value >= 1e-3);
      if (slow) throw new BadModelFileError(path, name, 'holds a value below 0.001');
    }
  }

  /** Kernel name -> number of parts it serves. */
  kernelNames(): Record<string, number> {
    const names: Record<string, number> = {}, bytes = new Uint8Array(this.memory.buffer);
    for (const part of this.plan.parts) {
      let at = this.exports.kernelName(part), name = '';
      while (bytes[at]) name += String.fromCharCode(bytes[at++]!);
      names[name] = (names[name] ?? 0) + 1;
    }
    return names;
  }
}

export interface MemberLayout {
  plan: MemoryPlan;
  workspaceBytes: number;
  /** Bytes of memory with all sessions. */
  maximum: number;
}

/** Asks the module itself how much it writes, over a memory that holds the descriptors only. */
export function layOut(module: WebAssembly.Module, options: MemberOptions, shared = false): MemberLayout {
  const { header, context, kvType, maxSessions, slice } = options, plan = planMemory(header, context, kvType, slice), pages = align(plan.stacks, PAGE) / PAGE;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
  const exports = instantiate(module, memory);
  writeDescriptors(memory, { ...plan, parts: [] }, header, options);
  const workspaceBytes = exports.workspaceBytes(plan.model) >>> 0;
  if (workspaceBytes === 0) {
    throw new UnsupportedFormatError('model', 'linears', 'there is no kernel for one of its formats', 'Pack the model again with this version.');
  }
  return { plan, workspaceBytes, maximum: align(align(plan.workspace + workspaceBytes) + maxSessions * plan.kvBytes, PAGE) };
}

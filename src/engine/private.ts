/**
 * The crew of members with private memories: each holds some rows of every matrix and the heads that go with them, and
 * what their rows give is exchanged two to four times a layer, by messages over the workers' own channels. Rank 0 computes here;
 * the others are its workers. With two members both send at once; with more, rank 0 collects and sends on.
 */
import { EngineCrashError } from '../errors.js';
import { Collective, type ExchangeFields } from '../generated/layout.js';
import { spawn, takeMessage, type WorkerPeer } from '../platform/platform.js';
import { fromWire } from '../runtime/wire-error.js';
import type { Crew } from './crew.js';
import { Exchanger, lineOf, type Line } from './exchange.js';
import { Member, layOut, type MemberOptions } from './member.js';
import type { Answer, Order, PrivateInit } from './private-worker.js';
import { inTime } from './threads.js';
import type { ForwardRow } from './types.js';
import { holderOf, type Holder } from './weights.js';

/** Looks at a member that does not answer, and the time between two of them: a minute, while this worker is awake. */
const PATIENCE = 12, LOOK_MS = 5000;

export class PrivateCrew implements Crew {
  private readonly links: Link[] = [];
  private hiring: Promise<unknown> = Promise.resolve();
  private members: readonly Link[] = [];
  private member!: Member;
  private exchanger: Exchanger | undefined;
  private pass = 0;
  private failure: unknown;
  private ended = false;
  private readonly watch = setInterval(() => this.exchanger?.look(PATIENCE), LOOK_MS);

  /** @param deadline milliseconds in which a worker has to start */
  constructor(private readonly module: WebAssembly.Module, private readonly deadline: number) {
    (this.watch as { unref?: () => void }).unref?.();
  }

  /** Makes the memories of `ranks` members, in place of those that were. @returns rank 0's. @throws ThreadsError, OutOfMemoryError */
  async open(options: Omit<MemberOptions, 'slice'>, ranks: number): Promise<Member> {
    const of = (rank: number): MemberOptions => ({ ...options, slice: { rank, ranks } });
    const missing = Array.from({ length: Math.max(0, ranks - 1 - this.links.length) }, () => this.hire());
    this.hiring = Promise.allSettled(missing);
    await inTime(Promise.all(missing), this.deadline);
    this.members = this.links.slice(0, ranks - 1);
    this.member = new Member(this.module, of(0), false);
    this.exchanger = new Exchanger(this.member.memory, takeMessage && (() => this.take()));
    await inTime(this.everybody(rank => ({ open: of(rank) })), this.deadline);
    return this.member;
  }

  private async hire(): Promise<void> {
    const { module, deadline } = this, channel = takeMessage && new MessageChannel(), values = channel?.port2;
    const worker = await spawn('worker.js', { role: 'private', module, values } satisfies PrivateInit, { deadline, transfer: values ? [values] : [] });
    if (this.ended) return worker.terminate();
    this.links.push(new Link(worker, channel?.port1, buffer => this.exchanger?.deliver(buffer), error => this.break(error)));
  }

  /** Whatever each of the others has to do before the first pass. */
  async everybody(order: (rank: number) => Exclude<Order, { pass: number }>): Promise<void> {
    await Promise.all(this.members.map((link, i) => link.ask(order(i + 1))));
  }

  /** The memories, for weights to be loaded into. */
  holders(): Holder[] {
    const { module, member: { options } } = this, ranks = this.members.length + 1;
    return [holderOf(this.member), ...this.members.map((link, i): Holder => {
      const { plan } = layOut(module, { ...options, slice: { rank: i + 1, ranks } });
      let spare: ArrayBuffer | undefined;
      return {
        ...plan,
        async store(at, length, fill) {
          const store = spare && spare.byteLength >= length ? spare : new ArrayBuffer(length);
          spare = undefined;
          await fill(new Uint8Array(store, 0, length));
          spare = await link.ask({ store, at, length }, [store]) as ArrayBuffer;
        },
      };
    })];
  }

  /** Ends the workers that have no part in it. */
  async dismissIdle(): Promise<void> {
    await Promise.all(this.links.splice(this.members.length).map(link => link.end()));
  }

  begin(rows: readonly ForwardRow[]): number {
    if (this.failure) throw this.failure;
    this.exchanger!.begin(++this.pass);
    for (const link of this.members) link.post({ pass: this.pass, rows });
    return this.member.begin(rows);
  }

  async run(step: number, steps: number): Promise<number> {
    const reached = this.member.runToExchange(step, steps);
    if (reached.exchange) await this.exchange(reached.exchange, reached.step);
    return reached.step;
  }

  private async exchange(fields: ExchangeFields, step: number): Promise<void> {
    const { collective, begin, end, width } = fields, isPair = this.members.length === 1, exchanger = this.exchanger!;
    const send = (begin: number, end: number) => {
      for (const link of this.members) link.line.send(exchanger.pack(step, fields, begin, end));
    };
    if (collective === Collective.broadcast) return send(0, width);
    if (collective === Collective.allGather && isPair) send(begin, end);
    for (const _ of this.members) await exchanger.receive(step, fields);
    if (collective === Collective.allGather && !isPair) send(0, width);
  }

  private take(): ArrayBuffer | undefined {
    for (const link of this.members) {
      const buffer = link.line.take!();
      if (buffer) return buffer;
    }
    return undefined;
  }

  private break(error: unknown): void {
    this.failure ??= error;
    this.exchanger?.fail(error);
  }

  fail(): void { this.break(new EngineCrashError('an earlier call')); }

  async end(): Promise<void> {
    this.ended = true;
    clearInterval(this.watch);
    this.break(new Error('the crew was dismissed'));
    await this.hiring;
    await Promise.all(this.links.map(link => link.end()));
  }
}

/** A member in another worker, seen from rank 0. */
class Link {
  /** Orders that were not answered yet; answers come in their order. */
  private readonly asked: { resolve(done: ArrayBuffer | true): void; reject(error: unknown): void }[] = [];
  readonly line: Line;
  private crashed: unknown;

  constructor(private readonly worker: WorkerPeer, private readonly values: MessagePort | undefined, receive: (values: ArrayBuffer) => void, crash: (error: unknown) => void) {
    const die = (error: unknown) => {
      this.crashed ??= error;
      for (const { reject } of this.asked.splice(0)) reject(error);
      crash(error);
    };
    worker.onCrash(die);
    this.line = lineOf(worker, values, receive);
    worker.onMessage((message: ArrayBuffer | Answer) => {
      if (message instanceof ArrayBuffer) receive(message);
      else if ('failed' in message) die(fromWire(message.failed));
      else if ('error' in message) this.asked.shift()?.reject(fromWire(message.error));
      else this.asked.shift()?.resolve(message.done);
    });
  }

  ask(order: Order, transfer?: ArrayBuffer[]): Promise<ArrayBuffer | true> {
    if (this.crashed) return Promise.reject(this.crashed);
    return new Promise((resolve, reject) => {
      this.asked.push({ resolve, reject });
      this.worker.post(order, transfer);
    });
  }

  post(order: Order): void { this.worker.post(order); }

  async end(): Promise<void> {
    for (const { reject } of this.asked.splice(0)) reject(new Error('the crew was dismissed'));
    this.values?.close();
    await this.worker.terminate();
  }
}

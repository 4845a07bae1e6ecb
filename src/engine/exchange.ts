/**
 * What members of a private crew send each other: columns [begin, end) of the vectors of a pass, in a buffer that is
 * transferred, never copied. Buffers go back and forth: who has read one keeps it for the next to be sent.
 *
 *   u32 pass | u32 step | u32 begin | u32 end | f32 values[m][end - begin]
 */
import type { ExchangeFields } from '../generated/layout.js';
import { now, takeMessage, turnSoon, type Peer } from '../platform/platform.js';

const HEADER_BYTES = 16;
/** A peer is at most one exchange ahead. */
const KEPT = 4;
/**
 * Milliseconds to stay awake for values: waking a thread that sleeps takes longer than most values are late. Staying awake for
 * longer, or in vain, takes the processor from the very thread that is waited for, where others want it too.
 */
const AWAKE_MS = 0.2;
/**
 * Staying awake has to pay: of values that come in time each counts one, of late ones each AWAKE_MS that they were waited for.
 * So many of either are remembered.
 */
const CREDIT = 64;

/** How buffers come and go. */
export interface Line {
  send(buffer: ArrayBuffer): void;
  /** The next one that has come, if it was not received yet. */
  take?(): ArrayBuffer | undefined;
}

/** Over the peer's own channel, or over `port`, which can be looked at. */
export function lineOf(peer: Peer, port: MessagePort | undefined, receive: (buffer: ArrayBuffer) => void): Line {
  if (!port) return { send: buffer => peer.post(buffer, [buffer]) };
  port.onmessage = ({ data }) => receive(data);
  return { send: buffer => port.postMessage(buffer, [buffer]), take: () => takeMessage!(port) as ArrayBuffer | undefined };
}

/** One member's end of it. */
export class Exchanger {
  private readonly free: ArrayBuffer[] = [];
  private arrived: ArrayBuffer[] = [];
  /** Of passes not begun here: values may overtake the order that begins one. */
  private readonly early: ArrayBuffer[] = [];
  private waiting: { resolve(buffer: ArrayBuffer): void; reject(error: unknown): void } | undefined;
  private failure: unknown;
  private credit = 0;
  private pass = 0;
  private looks = 0;

  /** @param take a buffer that has come and was not delivered, where one can look for it */
  constructor(private readonly memory: WebAssembly.Memory, private readonly take?: () => ArrayBuffer | undefined) {}

  /** From now on values of earlier passes are dropped: those were given up. */
  begin(pass: number): void {
    this.pass = pass;
    this.arrived = [];
    this.waiting = undefined;
    for (const buffer of this.early.splice(0)) this.deliver(buffer);
  }

  /**
   * Whether `pass` is what this member is in. To be asked after every wait: some runtimes bring the order that begins the next
   * pass before they go on with what the message ahead of it set going.
   */
  isAt(pass: number): boolean { return pass === this.pass; }

  /** Columns [begin, end) as they are after `step`. */
  pack(step: number, { values, ld, m }: ExchangeFields, begin: number, end: number): ArrayBuffer {
    const n = end - begin, bytes = HEADER_BYTES + 4 * m * n;
    let buffer = this.free.pop();
    if (!buffer || buffer.byteLength < bytes) buffer = new ArrayBuffer(bytes);
    const header = new Uint32Array(buffer, 0, 4), packed = new Float32Array(buffer, HEADER_BYTES, m * n);
    header[0] = this.pass, header[1] = step, header[2] = begin, header[3] = end;
    for (let i = 0; i < m; i++) packed.set(new Float32Array(this.memory.buffer, values + 4 * (i * ld + begin), n), i * n);
    return buffer;
  }

  /** Takes a buffer that has come. */
  deliver(buffer: ArrayBuffer): void {
    const [pass] = new Uint32Array(buffer, 0, 1) as unknown as [number];
    if (pass < this.pass) return this.keep(buffer);
    if (pass > this.pass) return void this.early.push(buffer);
    if (!this.waiting) return void this.arrived.push(buffer);
    const { resolve } = this.waiting;
    this.waiting = undefined;
    resolve(buffer);
  }

  /** Puts what another member has made in `step` where it belongs, as soon as it is there. */
  async receive(step: number, { values, ld, m, width }: ExchangeFields): Promise<void> {
    if (this.failure) throw this.failure;
    this.looks = 0;
    const { pass } = this, entered = now(), stay = this.credit > 0 ? entered + AWAKE_MS : 0;
    const buffer = this.soon(stay) ?? await new Promise<ArrayBuffer>((resolve, reject) => {
      this.waiting = { resolve, reject };
      this.stayAwake(stay);
    });
    const waited = (now() - entered) / AWAKE_MS;
    this.credit = Math.max(-CREDIT, Math.min(CREDIT, this.credit + (waited < 1 ? 1 : -waited)));
    if (!this.isAt(pass)) return this.keep(buffer);
    const [, made, begin, end] = new Uint32Array(buffer, 0, 4) as unknown as [number, number, number, number], n = end - begin;
    if (made !== step || end > width) throw new Error(`values of step ${made}, columns ${begin} to ${end}, in step ${step}`);
    const into = new Float32Array(this.memory.buffer, values, m * ld);
    for (let i = 0; i < m; i++) into.set(new Float32Array(buffer, HEADER_BYTES + 4 * i * n, n), i * ld + begin);
    this.keep(buffer);
  }

  /** What has come, or comes until `end` where one can look. */
  private soon(end: number): ArrayBuffer | undefined {
    while (this.take && this.arrived.length === 0) {
      const buffer = this.take();
      if (buffer) this.deliver(buffer);
      else if (now() >= end) break;
    }
    return this.arrived.shift();
  }

  /** Until `end`, or until values have come: an event loop that has something to do does not sleep. */
  private stayAwake(end: number): void {
    if (this.waiting && now() < end) turnSoon?.(() => this.stayAwake(end));
  }

  /** Nothing will come any more. */
  fail(error: unknown): void {
    this.failure ??= error;
    this.waiting?.reject(error);
    this.waiting = undefined;
  }

  /** Called now and then: fails when a member did not answer for `patience` calls. */
  look(patience: number): void {
    if (this.waiting && ++this.looks > patience) this.fail(new Error('a member does not answer'));
  }

  private keep(buffer: ArrayBuffer): void {
    if (this.free.length < KEPT) this.free.push(buffer);
  }
}

/** A member of a private crew in a worker of its own: keeps a slice of the weights, computes its rows, exchanges them with rank 0. */
import { Collective, type ExchangeFields } from '../generated/layout.js';
import type { Peer } from '../platform/platform.js';
import { toWire, type WireError } from '../runtime/wire-error.js';
import { Exchanger, lineOf } from './exchange.js';
import { Member, type MemberOptions } from './member.js';
import { fillForProbe } from './probe.js';
import type { ForwardRow } from './types.js';

export interface PrivateInit {
  role: 'private';
  module: WebAssembly.Module;
  /** Where values come and go, if not among orders and answers. */
  values: MessagePort | undefined;
}

/** What rank 0 sends besides buffers with values. All but a pass are answered. */
export type Order =
  | { open: MemberOptions }
  | { store: ArrayBuffer; at: number; length: number }
  | { check: true }
  | { fill: true }
  | { pass: number; rows: readonly ForwardRow[] };

/** `failed`: what stopped a pass, and this member for good. */
export type Answer = { done: ArrayBuffer | true } | { error: WireError } | { failed: WireError };

export function runPrivate(parent: Peer, { module, values }: PrivateInit): void {
  let member: Member, exchanger: Exchanger;
  const line = lineOf(parent, values, buffer => exchanger.deliver(buffer));

  const exchange = async (fields: ExchangeFields, step: number): Promise<void> => {
    if (fields.collective !== Collective.broadcast) {
      line.send(exchanger.pack(step, fields, fields.begin, fields.end));
    }
    if (fields.collective !== Collective.gather) await exchanger.receive(step, fields);
  };
  /** One that rank 0 gave up ends when the next begins: it waits for ever and is forgotten, or finds that it is no longer wanted. */
  const run = async ({ pass, rows }: { pass: number; rows: readonly ForwardRow[] }): Promise<void> => {
    exchanger.begin(pass);
    const steps = member.begin(rows);
    for (let step = 0; step < steps && exchanger.isAt(pass);) {
      const reached = member.runToExchange(step, steps);
      if (reached.exchange) await exchange(reached.exchange, reached.step);
      step = reached.step;
    }
  };
  const obey = (order: Exclude<Order, { pass: number }>): ArrayBuffer | true => {
    if ('open' in order) {
      member = new Member(module, order.open, false, undefined, true);
      exchanger = new Exchanger(member.memory, line.take);
    } else if ('store' in order) {
      new Uint8Array(member.memory.buffer, order.at, order.length).set(new Uint8Array(order.store, 0, order.length));
      return order.store;
    } else if ('check' in order) {
      member.checkFinite();
    } else {
      fillForProbe(member);
    }
    return true;
  };

  const post = (answer: Answer, transfer: ArrayBuffer[] = []) => parent.post(answer, transfer);
  parent.onMessage((message: ArrayBuffer | Order) => {
    if (message instanceof ArrayBuffer) return exchanger.deliver(message);
    if ('pass' in message) {
      run(message).catch(error => post({ failed: toWire(error, 'forward') }));
      return;
    }
    try {
      const done = obey(message);
      post({ done }, done === true ? [] : [done]);
    } catch (error) {
      post({ error: toWire(error, 'start') });
    }
  });
}

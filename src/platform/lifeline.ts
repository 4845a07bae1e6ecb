/**
 * How any thread learns that a worker has ended, whoever ended it. Browsers do not tell even its parent, and a parent that
 * computes hears nothing. On the web a worker holds a lock, which the browser takes back when it ends; in Node it holds one
 * end of a channel, whose other end is closed then. Deno, Bun and pages without an origin have neither.
 */
import { isServer } from './builtin.js';

export type Lifeline = string | MessagePort;

/** In a worker: takes a lock, before its parent hears of it. Resolves to the name; '' where there are no locks. */
export function holdLock(): Promise<string> {
  // Firefox never answers a page without an origin.
  if (isServer || globalThis.origin === 'null' || !globalThis.isSecureContext) return Promise.resolve('');
  const name = `lutra-${Math.random().toString(36).slice(2)}`;
  return new Promise(resolve => {
    const hold = () => {
      resolve(name);
      return new Promise<never>(() => {});
    };
    navigator.locks.request(name, hold).catch(() => resolve(''));
  });
}

const held: MessagePort[] = [];
/** In a worker: keeps its end of a channel; a port that nobody refers to would be closed. */
export function holdPort(port: MessagePort): void { held.push(port); }

/** Calls `ended` when the worker that holds the other end of `line` is gone. */
export function onEnd(line: Lifeline, ended: () => void): void {
  if (typeof line === 'string') {
    // Shared: several threads wait for one worker, and one of them may be in no state to let go.
    void navigator.locks.request(line, { mode: 'shared' }, ended);
    return;
  }
  line.addEventListener('close', ended);
  // In Node a port that is listened to keeps the process alive.
  (line as MessagePort & { unref?(): void }).unref?.();
}

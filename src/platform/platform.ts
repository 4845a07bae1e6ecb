/**
 * All that differs between runtimes: files, workers, the package's own assets, cores, a clock, a turn of the event loop.
 * Everything else in this package is the same code everywhere. Two kinds are told apart: runtimes with Node's built-in
 * modules (Node, Deno, Bun) and the web (pages, workers, WebViews).
 */
import { allAssets } from './assets.js';
import { builtin, isServer } from './builtin.js';

export { readAsset, type AssetName } from './assets.js';
export { attemptOr, blobSource, bytesSource, fileSink, openFile } from './files.js';
export { onEnd, type Lifeline } from './lifeline.js';
export { connect, spawn, workersGone, type Peer, type WorkerPeer } from './workers.js';

/** Processors this process may use; engines round, cap or invent the number, so callers time what they get. */
export function cores(): number {
  return isServer ? builtin('node:os').availableParallelism() : globalThis.navigator?.hardwareConcurrency ?? 1;
}

/** Why threads cannot share memory here; undefined where they can. */
export function whyNotShared(): string | undefined {
  if (!allAssets()['wasm/lutra-simd-shared.wasm']) return 'this build is for pages that share no memory';
  // Pages that are not isolated can make a shared memory but not post it, so the constructor's success says nothing.
  if ((globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated === false) return 'this page is not cross-origin isolated (COOP and COEP headers)';
  return typeof SharedArrayBuffer === 'function' ? undefined : 'this JavaScript engine has no SharedArrayBuffer';
}

/** What runs this code, as people call it. */
export function runtimeName(): string {
  const { Deno, Bun, navigator } = globalThis as { Deno?: { version: { deno: string } }; Bun?: { version: string }; navigator?: { userAgent: string } };
  if (Deno) return `Deno ${Deno.version.deno}`;
  if (Bun) return `Bun ${Bun.version}`;
  if (isServer) return `Node ${process.versions.node}`;
  return navigator?.userAgent ?? 'unknown';
}

/** Bytes that a model can have here at the very most: what the machine has; on the web, what a few 32-bit memories address. */
export function memoryLimit(): number {
  return isServer ? builtin('node:os').totalmem() : 2 ** 34;
}

/** A string that names a model, as those who wrote it mean it: on the web, what is no address of its own begins at the page's. */
export function resolveLocation(location: string): string {
  const base = globalThis.document?.baseURI ?? globalThis.location?.href;
  return isServer || URL.canParse(location) || !URL.canParse(location, base) ? location : new URL(location, base).href;
}

/** Milliseconds, monotonic. */
export const now = (): number => performance.now();

/**
 * The next message on a port, if it has come already: without a turn of the event loop. Undefined on the web, where nothing can
 * do that, and in Deno and Bun, where it may overtake messages that the event loop is about to bring.
 */
export const takeMessage: ((port: MessagePort) => unknown) | undefined = isServer && !process.versions.deno && !process.versions.bun
  ? port => builtin('node:worker_threads').receiveMessageOnPort(port as never)?.message : undefined;

const { scheduler } = globalThis as { scheduler?: { postTask(task: () => void, options: { priority: 'background' }): Promise<void> } };
/** Calls `task` in a turn of the event loop, after messages that have come. Undefined where that cannot be said. */
export const turnSoon = scheduler && ((task: () => void): void => void scheduler.postTask(task, { priority: 'background' }));

/** Smaller blocks are cheap to take and give back. */
const LARGE = 1 << 17;

/**
 * Zeros for something large that is soon dropped. In Node not from `malloc`: once glibc gets a block back that it had mapped
 * for its own sake, it lets every thread keep twice as much of what it no longer uses.
 */
export const largeBytes = (length: number): Uint8Array<ArrayBuffer> =>
  new Uint8Array(length > LARGE && runtimeName().startsWith('Node') ? new ArrayBuffer(length, { maxByteLength: length }) : new ArrayBuffer(length));

/** Takes the memory of something large that nobody will look at again, where that can be done before garbage is collected. */
export function dropBytes({ buffer }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.resizable) buffer.resize(0);
}

/** Gives back what this thread's garbage takes: V8 would wait for more of it, and it counts at the peak. Does nothing but in Node. */
export async function collectGarbage(): Promise<void> {
  if (!runtimeName().startsWith('Node')) return;
  try {
    const session = new (builtin('node:inspector').Session)();
    session.connect();
    await new Promise<void>(resolve => session.post('HeapProfiler.collectGarbage', () => resolve()));
    session.disconnect();
  } catch { /* One that lets nobody inspect it. */ }
}

let lastTurn = 0;
/** One turn of the event loop: messages that wait are delivered. Not clamped as timers are. */
export async function yieldToEvents(): Promise<void> {
  await new Promise<void>(typeof setImmediate === 'function' ? setImmediate : messageOneself);
  lastTurn = now();
}
/** Milliseconds since then: a turn wakes other threads, so it is made now and then. */
export const sinceYield = (): number => now() - lastTurn;

let channel: MessageChannel | undefined;
/** Several may wait at once: one message each. */
const heard: (() => void)[] = [];
function messageOneself(resolve: () => void): void {
  if (!channel) {
    channel = new MessageChannel();
    channel.port1.onmessage = () => heard.shift()!();
  }
  heard.push(resolve);
  channel.port2.postMessage(null);
}

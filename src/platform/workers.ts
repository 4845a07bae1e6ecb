/**
 * Workers: `spawn` on one side, `connect` on the other. A worker first says that it runs; the answer tells it where the
 * package's files are, and what it is for. One that says nothing is given up after a while: nobody waits for ever.
 */
import { EngineCrashError, EnvironmentError, LutraError } from '../errors.js';
import { allAssets, INLINE, textOf, useAssets, type AssetName, type AssetTable, type WorkerName } from './assets.js';
import { builtin, isServer } from './builtin.js';
import { holdLock, holdPort, onEnd, type Lifeline } from './lifeline.js';

/** The other end of a message channel: a worker seen from outside, or the parent seen from a worker. */
export interface Peer {
  post(message: unknown, transfer?: readonly Transferable[]): void;
  onMessage(listener: (message: any) => void): void;
}

export interface WorkerPeer extends Peer {
  /** Called at most once, when the worker dies without having been terminated. */
  onCrash(listener: (error: LutraError) => void): void;
  /** For other threads, which may outlive this one: how they learn that it ended. Undefined where they cannot. */
  readonly lifeline?: Lifeline | undefined;
  terminate(): Promise<void>;
}

/** The name of the worker's lock follows. */
const HELLO = 'lutra: a worker runs';
interface Welcome { assets: AssetTable; init: unknown; held: MessagePort | undefined }

export interface SpawnOptions {
  /** The worker alone does not keep the process alive. */
  unref?: boolean;
  /** Milliseconds in which it has to run. */
  deadline?: number;
  /** What of `init` moves there. */
  transfer?: readonly Transferable[];
}

/**
 * Starts a worker and hands it `init`. Resolves when it runs.
 * @throws EnvironmentError when it does not start, or not in time
 */
export async function spawn(name: WorkerName, init: unknown, { unref = false, deadline = 30_000, transfer = [] }: SpawnOptions = {}): Promise<WorkerPeer> {
  const hint = 'If scripts are loaded from other origins, or a policy forbids workers, allow `worker-src blob:`; `lutra/inline` needs no other file.';
  const fail = (reason: unknown) => new EnvironmentError(`a worker (${name}: ${reason instanceof Error ? reason.message : reason})`, hint);
  let over = false, running = false;
  let heard: (message: unknown) => void, died: (error: LutraError) => void = () => {};
  const crash = (cause: unknown) => {
    if (over) return;
    over = true;
    died(running ? new EngineCrashError(name, cause) : fail(cause));
  };

  const worker = await (isServer ? startThread : startWeb)(name, message => heard(message), crash, unref).catch(error => { throw error instanceof LutraError ? error : fail(error); });
  let lifeline: Lifeline | undefined;
  const peer: WorkerPeer = {
    get lifeline() { return lifeline; },
    post: worker.post,
    onMessage: listener => { heard = listener; },
    onCrash: listener => { died = listener; },
    async terminate() {
      over = true;
      await worker.terminate();
      if (!isServer) leaving = Promise.all([leaving, gone(lifeline)]);
    },
  };
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      died = reject;
      heard = message => {
        if (!String(message).startsWith(HELLO)) return;
        lifeline = String(message).slice(HELLO.length) || undefined;
        resolve();
      };
      timer = setTimeout(() => reject(fail(`not running after ${deadline / 1000} s`)), deadline);
    });
    if (lifeline) onEnd(lifeline, () => crash(new Error('it was ended from outside')));
    const channel = isServer ? new MessageChannel() : undefined, held = channel?.port2;
    lifeline ??= channel?.port1;
    peer.post({ assets: allAssets(), init, held } satisfies Welcome, held ? [held, ...transfer] : transfer);
  } catch (error) {
    await peer.terminate();
    throw error;
  } finally {
    clearTimeout(timer);
    worker.started();
  }
  running = true;
  died = () => {};
  return peer;
}

/** Milliseconds that a worker on the web has to be gone once it is terminated, and those its thread then takes. */
const GONE_MS = 400, THREAD_MS = 150;
let leaving: Promise<unknown> = Promise.resolve();

async function gone(lifeline: Lifeline | undefined): Promise<void> {
  const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms));
  if (lifeline) await Promise.race([new Promise<void>(resolve => onEnd(lifeline, resolve)), pause(GONE_MS)]);
  await pause(THREAD_MS);
}

/**
 * Resolves when the workers that were terminated here are gone. Chromium keeps a worker that ends sooner than one it has just
 * terminated for ever, and the memory of both.
 */
export const workersGone = async (): Promise<void> => { await leaving; };

interface RawWorker {
  post: Peer['post'];
  terminate(): Promise<void>;
  /** What was needed to start it is needed no more. */
  started(): void;
}
/** Room for new objects, which V8 lets grow to ten times as much: reading a vocabulary leaves that behind, and it counts at the peak. */
const YOUNG_MB = 16;
/** From 2 GB on, V8 gives each thread a copy of its builtins near the code: 2 MB. */
const OLD_MB = 2047;

type Start = (name: AssetName, heard: (message: unknown) => void, crash: (cause: unknown) => void, unref: boolean) => Promise<RawWorker>;

const startThread: Start = async (name, heard, crash, unref) => {
  const { Worker } = builtin('node:worker_threads');
  const asset = allAssets()[name] ?? INLINE;
  const url = asset.startsWith(INLINE) ? `data:text/javascript;charset=utf-8,${encodeURIComponent(await textOf(name))}` : asset;
  // No flags of the parent: `node --input-type=module -e …` would hand down one that a file cannot start with.
  const worker = new Worker(new URL(url), { execArgv: [], resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB, maxOldGenerationSizeMb: OLD_MB } });
  worker.on('error', crash);
  worker.on('exit', code => crash(new Error(`it exited with code ${code}`)));
  worker.on('message', heard);
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer as []),
    terminate: async () => { await worker.terminate(); },
    started: () => { if (unref) worker.unref(); },
  };
};

const startWeb: Start = async (name, heard, crash) => {
  const asset = allAssets()[name] ?? INLINE;
  // A worker's script has to be of the page's origin: a script from elsewhere is imported by one that is.
  const script = asset.startsWith(INLINE) ? await textOf(name)
    : new URL(asset).origin !== globalThis.origin ? `importScripts(${JSON.stringify(asset)});` : undefined;
  const url = script === undefined ? asset : URL.createObjectURL(new Blob([script], { type: 'text/javascript' }));
  // No module: Chromium refuses those on pages without an origin.
  const worker = makeWorker(url, script);
  worker.addEventListener('error', event => {
    event.preventDefault?.();
    crash(event.error ?? event.message ?? 'its script could not be loaded');
  });
  worker.addEventListener('message', event => heard(event.data));
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer as []),
    terminate: async () => worker.terminate(),
    started: () => { if (url !== asset) URL.revokeObjectURL(url); },
  };
};

/** WebKit, on a page opened from a file, lets a worker start no worker from a blob. */
function makeWorker(url: string, script: string | undefined): Worker {
  try {
    return new globalThis.Worker(url);
  } catch (error) {
    if (script === undefined) throw error;
    return new globalThis.Worker(`data:text/javascript;charset=utf-8,${encodeURIComponent(script)}`);
  }
}

/** In a worker: says that it runs, and calls `main` with what it is for and its parent. What `main` throws ends the worker. */
export function connect<Init>(main: (init: Init, parent: Peer) => void): void {
  const port = isServer ? builtin('node:worker_threads').parentPort : null;
  const post: Peer['post'] = (message, transfer = []) => {
    if (port) port.postMessage(message, transfer as []);
    else (globalThis as unknown as Worker).postMessage(message, transfer as []);
  };
  let heard = (message: unknown): void => {
    const { assets, init, held } = message as Welcome;
    useAssets(assets);
    if (held) holdPort(held);
    heard = () => {};
    main(init as Init, { post, onMessage(listener) { heard = listener; } });
  };
  if (port) port.on('message', message => heard(message));
  else globalThis.addEventListener('message', event => heard((event as MessageEvent).data));
  void holdLock().then(name => post(HELLO + name));
}

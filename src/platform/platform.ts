/**
 * All that differs between runtimes: files, workers, cores, a clock, a turn of the event loop. Everything else in this
 * package is the same code everywhere. `node:*` modules are imported when first needed, so that a browser never sees them.
 */
import { BadModelFileError, EngineCrashError, FileAccessError } from '../errors.js';
import type { ByteSource } from '../formats/types.js';

const isNodeLike = typeof process === 'object' && typeof process.versions?.node === 'string';

/** Files that lie beside the bundle: literal `new URL` expressions, so that bundlers find and copy them. */
const assets = {
  'worker.js': () => new URL('./worker.js', import.meta.url),
  'pack-worker.js': () => new URL('./pack-worker.js', import.meta.url),
  'wasm/lutra-simd.wasm': () => new URL('./wasm/lutra-simd.wasm', import.meta.url),
  'wasm/lutra-simd-shared.wasm': () => new URL('./wasm/lutra-simd-shared.wasm', import.meta.url),
  'wasm/lutra-relaxed.wasm': () => new URL('./wasm/lutra-relaxed.wasm', import.meta.url),
  'wasm/lutra-relaxed-shared.wasm': () => new URL('./wasm/lutra-relaxed-shared.wasm', import.meta.url),
  'wasm/packers.wasm': () => new URL('./wasm/packers.wasm', import.meta.url),
};
export type AssetName = keyof typeof assets;

export async function readAsset(name: AssetName): Promise<Uint8Array<ArrayBuffer>> {
  const url = assets[name]();
  if (url.protocol === 'file:') {
    const { readFile } = await import('node:fs/promises');
    return new Uint8Array(await readFile(url));
  }
  const response = await fetch(url);
  if (!response.ok) throw new FileAccessError(url.href, `HTTP status ${response.status}`, 'Serve the package\'s dist folder as a whole.');
  return new Uint8Array(await response.arrayBuffer());
}

/** The other end of a message channel: a worker seen from outside, or the parent seen from a worker. */
export interface Peer {
  post(message: unknown, transfer?: readonly ArrayBuffer[]): void;
  onMessage(listener: (message: any) => void): void;
}

export interface WorkerPeer extends Peer {
  /** Called at most once, when the worker dies without having been terminated. */
  onCrash(listener: (error: EngineCrashError) => void): void;
  terminate(): Promise<void>;
}

/** Starts a module worker; `init` is its first message. It does not keep the process alive by itself when `unref` is set. */
export async function spawn(name: 'worker.js' | 'pack-worker.js', init: unknown, options: { unref?: boolean } = {}): Promise<WorkerPeer> {
  let crashed: ((error: EngineCrashError) => void) | undefined;
  let over = false;
  const crash = (cause: unknown) => {
    if (over) return;
    over = true;
    crashed?.(new EngineCrashError(name, cause));
  };
  if (typeof globalThis.Worker === 'function') {
    const worker = new globalThis.Worker(assets[name](), { type: 'module' });
    worker.addEventListener('error', event => crash(event.error ?? event.message));
    worker.postMessage(init);
    return {
      post: (message, transfer = []) => worker.postMessage(message, transfer as ArrayBuffer[]),
      onMessage: listener => worker.addEventListener('message', event => listener(event.data)),
      onCrash: listener => { crashed = listener; },
      terminate: async () => { over = true; worker.terminate(); },
    };
  }
  const { Worker } = await import('node:worker_threads');
  // No flags of the parent: `node --input-type=module -e …` would hand down one that a file cannot start with.
  const worker = new Worker(assets[name](), { execArgv: [] });
  worker.on('error', crash);
  worker.on('exit', code => crash(new Error(`the worker exited with code ${code}`)));
  worker.postMessage(init);
  if (options.unref) worker.unref();
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer as ArrayBuffer[]),
    onMessage: listener => {
      worker.on('message', listener);
      if (options.unref) worker.unref(); // listening made it count again
    },
    onCrash: listener => { crashed = listener; },
    terminate: async () => { over = true; await worker.terminate(); },
  };
}

/** The parent of the worker this is called in. */
export async function parent(): Promise<Peer> {
  if (isNodeLike && typeof (globalThis as { importScripts?: unknown }).importScripts === 'undefined') {
    const { parentPort } = await import('node:worker_threads');
    if (parentPort) {
      return {
        post: (message, transfer = []) => parentPort.postMessage(message, transfer as ArrayBuffer[]),
        onMessage: listener => { parentPort.on('message', listener); },
      };
    }
  }
  const scope = globalThis as unknown as Worker;
  return {
    post: (message, transfer = []) => scope.postMessage(message, transfer as ArrayBuffer[]),
    onMessage: listener => scope.addEventListener('message', event => listener(event.data)),
  };
}

/** Processors this process may use; engines round, cap or invent the number, so callers time what they get. */
export async function cores(): Promise<number> {
  if (isNodeLike) {
    const os = await import('node:os');
    return os.availableParallelism();
  }
  return globalThis.navigator?.hardwareConcurrency ?? 1;
}

/** Milliseconds, monotonic. */
export const now = (): number => performance.now();

let channel: MessageChannel | undefined;
/** One turn of the event loop: messages that wait are delivered. Not clamped as timers are. */
export function yieldToEvents(): Promise<void> {
  if (typeof setImmediate === 'function') return new Promise(resolve => setImmediate(resolve));
  channel ??= new MessageChannel();
  const { port1, port2 } = channel;
  return new Promise(resolve => {
    port1.onmessage = () => resolve();
    port2.postMessage(null);
  });
}

/** Opens a file for random access. */
export async function openFile(path: string | URL): Promise<ByteSource> {
  const { open } = await import('node:fs/promises');
  const name = path instanceof URL ? decodeURIComponent(path.pathname) : path;
  let handle;
  try {
    handle = await open(path, 'r');
  } catch (cause) {
    const missing = (cause as { code?: string }).code === 'ENOENT';
    throw new FileAccessError(name, missing ? 'no such file' : String((cause as Error).message),
      missing ? 'Check the path.' : 'Check that you may read it.', { cause });
  }
  const stat = await handle.stat();
  if (!stat.isFile()) {
    await handle.close();
    throw new FileAccessError(name, 'is not a regular file', 'Give the path of a model file.');
  }
  return {
    name,
    size: stat.size,
    async read(target, offset) {
      for (let done = 0; done < target.length;) {
        // Node reads at most 2 GiB at once; 64 MiB keeps aborts quick.
        const length = Math.min(target.length - done, 64 << 20);
        const { bytesRead } = await handle.read(target, done, length, offset + done);
        if (bytesRead === 0) throw new BadModelFileError(name, `bytes ${offset + done}…`, `the file ends before byte ${offset + target.length}`);
        done += bytesRead;
      }
    },
    close: () => handle.close(),
  };
}

/** Bytes already in memory, as a source. */
export function bytesSource(name: string, bytes: Uint8Array): ByteSource {
  return {
    name,
    size: bytes.length,
    async read(target, offset) {
      if (offset + target.length > bytes.length) throw new BadModelFileError(name, `bytes ${offset}…`, `ends before byte ${offset + target.length}`);
      target.set(bytes.subarray(offset, offset + target.length));
    },
    async close() {},
  };
}

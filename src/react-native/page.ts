/** The page in the WebView: starts workers, passes messages on, downloads models and keeps them. */
import { readCached, openCache } from './cache.js';
import { decode, encode } from './codec.js';
import type { FromPage, ToPage } from './protocol.js';
import { runtimeName, spawn, type WorkerPeer } from '../platform/platform.js';
import { toWire } from '../runtime/wire-error.js';

declare global {
  var ReactNativeWebView: { postMessage(text: string): void };
  /** What the app calls. */
  var lutraReceive: (text: string) => void;
}

const send = (message: FromPage) => globalThis.ReactNativeWebView.postMessage(encode(message));
const workers = new Map<number, { peer: Promise<WorkerPeer>; stop: AbortController }>();
const cache = openCache();

async function open(channel: number): Promise<void> {
  const stop = new AbortController(), peer = spawn('worker.js', { role: 'runtime' });
  workers.set(channel, { peer, stop });
  const died = (error: unknown) => {
    if (workers.delete(channel)) send({ channel, died: toWire(error, 'start of the worker') });
  };
  try {
    const worker = await peer;
    worker.onMessage(message => send({ channel, message }));
    worker.onCrash(died);
    send({ channel, opened: true });
  } catch (error) {
    died(error);
  }
}

interface Request { id: number; method?: string; args?: any }

async function pass(channel: number, message: Request): Promise<void> {
  const worker = workers.get(channel);
  if (!worker) return;
  const peer = await worker.peer;
  if (message.method !== 'load') return peer.post(message);
  const { args, id } = message;
  try {
    const report = (loaded: number, total: number) => send({ channel, message: { id, event: { phase: 'download', loaded, total } } });
    const source = await readCached(await cache, args.source, report, worker.stop.signal);
    peer.post({ ...message, args: { source, options: args.options } });
  } catch (error) {
    if (!worker.stop.signal.aborted) send({ channel, message: { id, error: toWire(error, 'load') } });
  }
}

async function close(channel: number): Promise<void> {
  const worker = workers.get(channel);
  workers.delete(channel);
  worker?.stop.abort();
  await (await worker?.peer)?.terminate();
}

globalThis.lutraReceive = text => {
  const message = decode(text) as ToPage;
  if ('open' in message) void open(message.channel);
  else if ('close' in message) void close(message.channel).catch(() => {});
  else void pass(message.channel, message.message as Request).catch(() => {});
};

void cache.then(found => send({ ready: { origin: globalThis.origin, cache: found !== undefined, runtime: runtimeName() } }));

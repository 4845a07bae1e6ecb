/** The page in the WebView: starts workers and passes messages on. They download models, and keep them where the page may. */
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
const workers = new Map<number, Promise<WorkerPeer>>();

async function open(channel: number): Promise<void> {
  const peer = spawn('worker.js', { role: 'runtime' });
  workers.set(channel, peer);
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

async function close(channel: number): Promise<void> {
  const peer = workers.get(channel);
  workers.delete(channel);
  await (await peer)?.terminate();
}

globalThis.lutraReceive = text => {
  const message = decode(text) as ToPage;
  if ('open' in message) void open(message.channel);
  else if ('close' in message) void close(message.channel).catch(() => {});
  else void workers.get(message.channel)?.then(peer => peer.post(message.message)).catch(() => {});
};

/** Whether the page can keep models: not without an origin, or with an insecure one. */
async function canKeep(): Promise<boolean> {
  // Firefox never answers a page without an origin.
  if (globalThis.origin === 'null' || !globalThis.isSecureContext) return false;
  return caches.open('lutra').then(() => true, () => false);
}

void canKeep().then(cache => send({ ready: { origin: globalThis.origin, cache, runtime: runtimeName() } }));

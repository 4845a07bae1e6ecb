/** Models by URL: downloaded once, kept in the browser's Cache Storage where the page may have one. */
import { FileAccessError } from '../errors.js';
import { atMostTenPerSecond } from '../runtime/progress.js';

/** Undefined on pages without an origin, or with an insecure one. */
export async function openCache(): Promise<Cache | undefined> {
  // Firefox never answers a page without an origin.
  if (globalThis.origin === 'null' || !globalThis.isSecureContext) return undefined;
  try {
    return await caches.open('lutra-models');
  } catch {
    return undefined;
  }
}

/** @throws FileAccessError; the signal's reason */
export async function readCached(cache: Cache | undefined, url: string, onProgress: (loaded: number, total: number) => void, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const report = atMostTenPerSecond(onProgress);
  const kept = await cache?.match(url);
  if (kept) {
    const bytes = new Uint8Array(await kept.arrayBuffer());
    report(bytes.length, bytes.length);
    return bytes;
  }
  const hint = 'Check the address and the connection; the server has to allow other origins (CORS).';
  const response = await fetch(url, { signal }).catch(cause => {
    signal.throwIfAborted();
    throw new FileAccessError(url, String(cause), hint, { cause });
  });
  if (!response.ok || !response.body) throw new FileAccessError(url, `HTTP status ${response.status}`, hint);
  const total = Number(response.headers.get('content-length') ?? 0);
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let loaded = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    report(loaded += value.length, Math.max(total, loaded));
  }
  if (total > 0 && loaded !== total && !response.headers.has('content-encoding')) throw new FileAccessError(url, `${loaded} of ${total} bytes arrived`, hint);
  const bytes = new Uint8Array(await new Blob(chunks).arrayBuffer());
  report(bytes.length, bytes.length);
  // Only a whole file is kept, and a full disk is no failure.
  await cache?.put(url, new Response(bytes)).catch(() => {});
  return bytes;
}

/** A file from a server to the store: resumed where it was cut, checked before it appears there. */
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { DownloadError } from '../errors.js';
import { get, patience, type HttpOptions } from './http.js';
import { contentRange, type RemoteFile } from './remote-file.js';
import type { Part, Store } from './store.js';

/** Failures in a row, none of which brought a byte. */
const ATTEMPTS = 5;
const HASH_BLOCK = 1 << 20;
/** Bytes of a file whose server does not say how many there are: such a one may have no end. */
const UNSIZED_LIMIT = 64 << 20;

/**
 * Two downloads of one file at once do no harm: they write the same bytes to the same places.
 * @param onProgress bytes that are there
 * @throws DownloadError; nothing appears under `name` then, and what has arrived is kept unless it is wrong
 */
export async function fetchFile(file: RemoteFile, store: Store, name: string, options: HttpOptions, onProgress: (loaded: number) => void = () => {}): Promise<void> {
  const resumable = file.ranges && file.version !== undefined && file.size !== undefined;
  const version = resumable ? bytesToHex(sha256(new TextEncoder().encode(`${file.version} ${file.size}`))).slice(0, 16) : Math.random().toString(36).slice(2, 10);
  const part = await store.part(name, version);
  let kept = true;
  try {
    await fill(part, file, options, onProgress);
    await part.finish();
    kept = false;
  } catch (error) {
    if (!resumable || (error instanceof DownloadError && error.wrong)) {
      kept = false;
      await part.remove();
    }
    throw error;
  } finally {
    if (kept) await part.close();
  }
}

async function fill(part: Part, file: RemoteFile, options: HttpOptions, onProgress: (loaded: number) => void): Promise<void> {
  const { url, size, etag, sha256: expected } = file;
  const wrong = (problem: string) => new DownloadError(url, 200, problem, 'What has arrived was removed. Try again, or from another place.', { wrong: true });
  let done = size !== undefined && part.size > size ? 0 : part.size;
  let hash = sha256.create();
  const restart = async () => {
    done = 0;
    hash = sha256.create();
    await part.truncate(0);
  };
  if (done === 0) await restart();
  else if (expected) for (let at = 0; at < done; at += HASH_BLOCK) {
    options.signal?.throwIfAborted();
    const block = new Uint8Array(Math.min(HASH_BLOCK, done - at));
    await part.read(block, at);
    hash.update(block);
  }
  onProgress(done);

  for (let attempt = 1; done !== size;) {
    const before = done;
    try {
      const reply = await get(url, done > 0 ? { range: `bytes=${done}-` } : {}, options, reply => reply);
      const range = contentRange(reply.headers), changed = etag !== undefined && (reply.headers.get('etag') ?? etag) !== etag;
      if (reply.status !== 206) await restart();
      if (changed || (reply.status === 206 && (range?.begin !== done || range.total !== size))) {
        reply.cancel();
        throw wrong(changed ? 'it changed on the way' : 'the server sends another part than the one asked for');
      }
      for await (const bytes of reply.body()) {
        if (done + bytes.length > (size ?? UNSIZED_LIMIT)) throw wrong(size === undefined ? `more than ${UNSIZED_LIMIT} bytes without having announced a size` : `more than the ${size} bytes announced`);
        await part.write(bytes, done);
        if (expected) hash.update(bytes);
        done += bytes.length;
        onProgress(done);
      }
      if (size === undefined) break;
      if (done < size) throw new DownloadError(url, 0, `the connection ended after ${done} of ${size} bytes`, 'Start again: what has arrived is kept.', { transient: true });
    } catch (error) {
      options.signal?.throwIfAborted();
      if (done > before) attempt = 1;
      if (!(error instanceof DownloadError) || !error.transient || attempt++ === ATTEMPTS) throw error;
      await patience(attempt - 1, options);
    }
  }
  const found = expected && bytesToHex(hash.digest());
  if (found !== expected) throw wrong(`its SHA-256 is ${found}, it should be ${expected}`);
}

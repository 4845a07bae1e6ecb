/** Files as sources and sinks. */
import { BadModelFileError, FileAccessError } from '../errors.js';
import type { ByteSink } from '../formats/packed-writer.js';
import type { ByteSource } from '../formats/types.js';
import { builtin } from './builtin.js';

/** Bytes that are read in less time than it takes to have another thread read them. */
const SMALL_READ = 1 << 20;

/** Opens a file for random access. */
export async function openFile(path: string | URL): Promise<ByteSource> {
  const { open } = builtin('node:fs/promises'), { readSync } = builtin('node:fs');
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
        const at = offset + done, bytesRead = length <= SMALL_READ ? readSync(handle.fd, target, done, length, at) : (await handle.read(target, done, length, at)).bytesRead;
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

/** A Blob or File, read in parts. */
export function blobSource(blob: Blob, name: string): ByteSource {
  return {
    name, size: blob.size,
    async read(target, offset) {
      const bytes = new Uint8Array(await blob.slice(offset, offset + target.length).arrayBuffer());
      if (bytes.length !== target.length) throw new BadModelFileError(name, `bytes ${offset}…`, `ends before byte ${offset + target.length}`);
      target.set(bytes);
    },
    async close() {},
  };
}

/**
 * A function that gives what an action gives, its failure as one of ours.
 * @param elsewhere for the hint: what to do where nothing can be written
 */
export const attemptOr = (elsewhere: string) => async <T>(path: string, action: Promise<T>): Promise<T> => {
  try {
    return await action;
  } catch (cause) {
    const full = (cause as { code?: string }).code === 'ENOSPC';
    throw new FileAccessError(path, (cause as Error).message, `${full ? 'Free some space on this disk' : 'Check that you may write there'}, or ${elsewhere}.`, { cause });
  }
};
const attempt = attemptOr('write elsewhere');

/** A file that appears under its name when it is complete, and not at all when it is not. */
export async function fileSink(path: string): Promise<ByteSink> {
  const { open, rename, rm } = builtin('node:fs/promises');
  const temporary = `${path}.${Math.random().toString(36).slice(2, 8)}.tmp`;
  const handle = await attempt(path, open(temporary, 'wx'));
  return {
    async begin(size) { await attempt(path, handle.truncate(size)); },
    async write(bytes, offset) {
      for (let done = 0; done < bytes.length;) {
        done += (await attempt(path, handle.write(bytes, done, bytes.length - done, offset + done))).bytesWritten;
      }
    },
    async finish() {
      await handle.close();
      await attempt(path, rename(temporary, path));
    },
    async abort() {
      await handle.close();
      await rm(temporary, { force: true });
    },
  };
}

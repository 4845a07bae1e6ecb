/** Where packed files go. */
import { FileAccessError } from '../errors.js';
import type { ByteSink } from '../formats/packed-writer.js';

/** A file that appears under its name when it is complete, and not at all when it is not. */
export async function fileSink(path: string): Promise<ByteSink> {
  const { open, rename, rm } = await import('node:fs/promises');
  const temporary = `${path}.${Math.random().toString(36).slice(2, 8)}.tmp`;
  const attempt = async <T>(action: Promise<T>): Promise<T> => {
    try {
      return await action;
    } catch (cause) {
      const full = (cause as { code?: string }).code === 'ENOSPC';
      throw new FileAccessError(path, (cause as Error).message, full ? 'Free some space on this disk, or write elsewhere.' : 'Check that you may write there.', { cause });
    }
  };
  const handle = await attempt(open(temporary, 'wx'));
  return {
    async begin(size) { await attempt(handle.truncate(size)); },
    async write(bytes, offset) {
      for (let done = 0; done < bytes.length;) {
        done += (await attempt(handle.write(bytes, done, bytes.length - done, offset + done))).bytesWritten;
      }
    },
    async finish() {
      await handle.close();
      await attempt(rename(temporary, path));
    },
    async abort() {
      await handle.close();
      await rm(temporary, { force: true });
    },
  };
}

/** A file in memory: `bytes`. */
export class MemorySink implements ByteSink {
  bytes = new Uint8Array(0);
  async begin(size: number): Promise<void> { this.bytes = new Uint8Array(size); }
  async write(bytes: Uint8Array, offset: number): Promise<void> { this.bytes.set(bytes, offset); }
  async finish(): Promise<void> {}
  async abort(): Promise<void> { this.bytes = new Uint8Array(0); }
}

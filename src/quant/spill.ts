/** Named arrays of f32 in a file that nobody sees: it is gone when it is closed, or when the process ends. */
import { FileAccessError } from '../errors.js';
import { builtin } from '../platform/builtin.js';

export class Spill {
  private constructor(private readonly path: string, private readonly handle: Awaited<ReturnType<typeof import('node:fs/promises').open>>,
    private readonly starts: ReadonlyMap<string, number>) {}

  /** @param lengths numbers in each array */
  static async create(path: string, lengths: Record<string, number>): Promise<Spill> {
    const { open, rm } = builtin('node:fs/promises');
    const handle = await attempt(path, open(path, 'w+'));
    // Where a file can lose its name while it is open, nothing is left even after a crash.
    await rm(path).catch(() => {});
    const starts = new Map<string, number>();
    let end = 0;
    for (const [name, length] of Object.entries(lengths)) {
      starts.set(name, end);
      end += 4 * length;
    }
    return new Spill(path, handle, starts);
  }

  /** Fills `target` from the array's element `first` on. */
  async read(name: string, first: number, target: Float32Array): Promise<void> {
    await this.transfer('read', name, first, target);
  }
  async write(name: string, first: number, source: Float32Array): Promise<void> {
    await this.transfer('write', name, first, source);
  }
  async close(): Promise<void> {
    const { rm } = builtin('node:fs/promises');
    await this.handle.close();
    await rm(this.path, { force: true });
  }

  private async transfer(way: 'read' | 'write', name: string, first: number, { buffer, byteOffset, byteLength }: Float32Array): Promise<void> {
    const bytes = new Uint8Array(buffer, byteOffset, byteLength), start = this.starts.get(name)! + 4 * first;
    for (let done = 0; done < bytes.length;) {
      const length = Math.min(bytes.length - done, 64 << 20);
      if (way === 'read') {
        const { bytesRead } = await attempt(this.path, this.handle.read(bytes, done, length, start + done));
        if (bytesRead === 0) throw new FileAccessError(this.path, 'ends too soon', 'Check the disk.');
        done += bytesRead;
      } else {
        done += (await attempt(this.path, this.handle.write(bytes, done, length, start + done))).bytesWritten;
      }
    }
  }
}

async function attempt<T>(path: string, action: Promise<T>): Promise<T> {
  try {
    return await action;
  } catch (cause) {
    const full = (cause as { code?: string }).code === 'ENOSPC';
    throw new FileAccessError(path, (cause as Error).message, full ? 'Free some space on this disk, or use fewer calibration tokens.' : 'Check that you may write there.', { cause });
  }
}

/** Named arrays of f32 in a file. */
import { FileAccessError } from '../errors.js';
import { builtin } from '../platform/builtin.js';
import { attemptOr } from '../platform/platform.js';

const attempt = attemptOr('use fewer calibration tokens');

export class Spill {
  private constructor(private readonly path: string, private readonly handle: Awaited<ReturnType<typeof import('node:fs/promises').open>>,
    private readonly starts: ReadonlyMap<string, number>) {}

  /**
   * @param flags 'w+' for a new file, 'r' for one that is there
   * @param lengths numbers in each array
   */
  static async open(path: string, flags: 'w+' | 'r', lengths: Record<string, number>): Promise<Spill> {
    const handle = await attempt(path, builtin('node:fs/promises').open(path, flags));
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
    await this.handle.close();
  }
  /** Takes the file's name away: it is gone when it is closed, or when the process ends. */
  async hide(): Promise<void> {
    await builtin('node:fs/promises').rm(this.path, { force: true });
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

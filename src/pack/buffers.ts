/** Room for what is being packed. */
import { largeBytes } from '../platform/platform.js';

/**
 * Buffers that are used again. Garbage of this size is collected late: without them each worker would hold on to some 64 MB.
 */
const ROUND = 1 << 16;

export class Buffers {
  private free: ArrayBuffer[] = [];

  /** Bytes with any contents, perhaps at the beginning of a larger buffer. */
  take(length: number): Uint8Array<ArrayBuffer> {
    const i = this.free.findIndex(({ byteLength }) => byteLength >= length && byteLength <= 2 * length + ROUND);
    const [buffer = largeBytes(Math.ceil(length / ROUND) * ROUND).buffer] = i < 0 ? [] : this.free.splice(i, 1);
    return new Uint8Array(buffer, 0, length);
  }

  give(...buffers: ArrayBuffer[]): void { this.free.push(...buffers); }

  /** All that are free, for somebody else. */
  drain(): ArrayBuffer[] { return this.free.splice(0); }
}

/** Packed files that are kept in memory. */
import type { ByteSink } from '../formats/packed-writer.js';

/** A file in memory: `bytes`. */
export class MemorySink implements ByteSink {
  bytes = new Uint8Array(0);
  async begin(size: number): Promise<void> { this.bytes = new Uint8Array(size); }
  async write(bytes: Uint8Array, offset: number): Promise<void> { this.bytes.set(bytes, offset); }
  async finish(): Promise<void> {}
  async abort(): Promise<void> { this.bytes = new Uint8Array(0); }
}

/** Downloads in memory, where nothing better is at hand. */
import { FileAccessError } from '../errors.js';
import { addOpener } from '../formats/files.js';
import { MemorySink } from '../pack/sink.js';
import { bytesSource } from '../platform/platform.js';
import type { Part, Store } from './store.js';

const PREFIX = 'memory:';

/** Parts of downloads, as long as the page lives. */
export class MemoryParts {
  readonly #parts = new Map<string, Uint8Array>();

  /** @param finish takes the bytes when they are complete */
  part(key: string, finish: (bytes: Uint8Array) => Promise<void>): Part {
    let buffer = this.#parts.get(key) ?? new Uint8Array(0), size = buffer.length;
    return {
      size,
      async read(target, offset) { target.set(buffer.subarray(offset, offset + target.length)); },
      async write(bytes, offset) {
        if (offset + bytes.length > buffer.length) {
          const grown = new Uint8Array(Math.max(2 * buffer.length, offset + bytes.length));
          grown.set(buffer);
          buffer = grown;
        }
        buffer.set(bytes, offset);
        size = Math.max(size, offset + bytes.length);
      },
      async truncate(length) { size = Math.min(size, length); },
      finish: async () => {
        this.#parts.delete(key);
        await finish(buffer.subarray(0, size));
      },
      close: async () => { this.#parts.set(key, buffer.slice(0, size)); },
      remove: async () => { this.#parts.delete(key); },
    };
  }
}

class MemoryStore implements Store {
  readonly #entries = new Map<string, Uint8Array>();
  readonly #parts = new MemoryParts();

  constructor() {
    addOpener(PREFIX, async location => {
      const bytes = this.#entries.get(location.slice(PREFIX.length));
      if (!bytes) throw new FileAccessError(location, 'no such file', 'Download it again.', { cause: { code: 'ENOENT' } });
      return bytesSource(location, bytes);
    });
  }

  location(name: string): string { return PREFIX + name; }
  async has(name: string): Promise<boolean> { return this.#entries.has(name); }

  async part(name: string, version: string): Promise<Part> {
    return this.#parts.part(`${name}.${version}`, async bytes => { this.#entries.set(name, bytes); });
  }

  async sink(name: string): Promise<MemorySink> {
    const sink = new MemorySink(), entries = this.#entries;
    sink.finish = async () => { entries.set(name, sink.bytes); };
    return sink;
  }

  async remove(name: string): Promise<void> {
    for (const entry of this.#entries.keys()) if (entry === name || entry.startsWith(`${name}/`)) this.#entries.delete(entry);
  }

  async list(): Promise<{ name: string; bytes: number }[]> {
    return [...this.#entries].map(([name, { length: bytes }]) => ({ name, bytes }));
  }
}

export const memoryStore = new MemoryStore();

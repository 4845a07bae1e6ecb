/** Downloads in a browser's Cache Storage, where the page has no files of its own: whole entries are kept, parts are not. */
import { FileAccessError } from '../errors.js';
import { addOpener } from '../formats/files.js';
import { MemorySink } from '../pack/sink.js';
import { blobSource } from '../platform/platform.js';
import { MemoryParts } from './memory-store.js';
import type { Part, Store } from './store.js';

const PREFIX = 'cache:';
/** Entries are kept under addresses, which nobody asks for. */
const addressOf = (name: string) => `https://lutra.invalid/${encodeURI(name)}`;

export class CacheStore implements Store {
  readonly #parts = new MemoryParts();

  /** Undefined on pages without an origin, or with an insecure one. */
  static async open(): Promise<CacheStore | undefined> {
    // Firefox never answers a page without an origin.
    if (globalThis.origin === 'null' || !globalThis.isSecureContext) return undefined;
    return caches.open('lutra').then(cache => new CacheStore(cache), () => undefined);
  }

  private constructor(private readonly cache: Cache) {
    addOpener(PREFIX, async location => {
      const kept = await this.cache.match(addressOf(location.slice(PREFIX.length)));
      if (!kept) throw new FileAccessError(location, 'no such file', 'Download it again.', { cause: { code: 'ENOENT' } });
      return blobSource(await kept.blob(), location);
    });
  }

  location(name: string): string { return PREFIX + name; }
  async has(name: string): Promise<boolean> { return await this.cache.match(addressOf(name)) !== undefined; }

  async part(name: string, version: string): Promise<Part> {
    return this.#parts.part(`${name}.${version}`, bytes => this.#keep(name, bytes));
  }

  async sink(name: string): Promise<MemorySink> {
    const sink = new MemorySink();
    sink.finish = () => this.#keep(name, sink.bytes);
    return sink;
  }

  async remove(name: string): Promise<void> {
    for (const entry of await this.#names()) if (entry === name || entry.startsWith(`${name}/`)) await this.cache.delete(addressOf(entry));
  }

  async list(): Promise<{ name: string; bytes: number }[]> {
    return Promise.all((await this.#names()).map(async name => ({ name, bytes: (await (await this.cache.match(addressOf(name)))!.blob()).size })));
  }

  async #names(): Promise<string[]> {
    return (await this.cache.keys()).map(({ url }) => decodeURI(url.slice(addressOf('').length)));
  }

  async #keep(name: string, bytes: Uint8Array): Promise<void> {
    await this.cache.put(addressOf(name), new Response(bytes as Uint8Array<ArrayBuffer>)).catch(cause => {
      throw new FileAccessError(this.location(name), (cause as Error).message, 'The browser gives this page no more storage: free some, or use a smaller model.', { cause });
    });
  }
}

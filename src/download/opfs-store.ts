/**
 * Downloads in a browser's own file system, from a worker. Files cannot be renamed everywhere, so an entry NAME is a
 * small file that says where its bytes are; it is written when they are complete.
 */
import { FileAccessError } from '../errors.js';
import { addOpener } from '../formats/files.js';
import type { ByteSink } from '../formats/packed-writer.js';
import { blobSource } from '../platform/platform.js';
import type { Part, Store } from './store.js';

const PREFIX = 'opfs:', ENTRY = '.entry';

/** What TypeScript's types lack. */
type Folder = FileSystemDirectoryHandle & { entries(): AsyncIterable<[string, FileSystemHandle]> };
interface Access { getSize(): number; read(target: Uint8Array, at: { at: number }): number; write(bytes: Uint8Array, at: { at: number }): number; truncate(size: number): void; flush(): void; close(): void }
type Handle = FileSystemFileHandle & { createSyncAccessHandle?(): Promise<Access> };

export class OpfsStore implements Store {
  /** Undefined where the page has no storage of its own (an opaque origin, a private window), or files cannot be written. */
  static async open(): Promise<OpfsStore | undefined> {
    try {
      const root = await navigator.storage.getDirectory(), store = new OpfsStore(await root.getDirectoryHandle('lutra', { create: true }) as Folder);
      const file: Handle = await store.#file('probe', true);
      (await file.createSyncAccessHandle!()).close();
      return store;
    } catch {
      return undefined;
    }
  }

  private constructor(private readonly root: Folder) {
    addOpener(PREFIX, async location => {
      const name = location.slice(PREFIX.length);
      try {
        return blobSource(await (await this.#file(await this.#target(name))).getFile(), location);
      } catch (cause) {
        throw new FileAccessError(location, 'no such file', 'Download it again.', { cause: { code: 'ENOENT', message: String(cause) } });
      }
    });
  }

  location(name: string): string { return PREFIX + name; }

  async has(name: string): Promise<boolean> {
    return this.#target(name).then(target => this.#file(target)).then(() => true, () => false);
  }

  async part(name: string, version: string): Promise<Part> {
    const bytes = `${name}.${version}.part`, access = await this.#access(bytes);
    return {
      size: access.getSize(),
      async read(target, offset) { access.read(target, { at: offset }); },
      async write(data, offset) { written(access, data, offset, bytes); },
      async truncate(size) { access.truncate(size); },
      finish: async () => {
        access.flush();
        access.close();
        await this.#point(name, bytes);
      },
      async close() { access.close(); },
      remove: async () => {
        access.close();
        await this.#drop(bytes);
      },
    };
  }

  async sink(name: string): Promise<ByteSink> {
    const bytes = `${name}.${Math.random().toString(36).slice(2, 10)}.data`, access = await this.#access(bytes);
    return {
      async begin(size) { access.truncate(size); },
      async write(data, offset) { written(access, data, offset, bytes); },
      finish: async () => {
        access.flush();
        access.close();
        await this.#point(name, bytes);
      },
      abort: async () => {
        access.close();
        await this.#drop(bytes);
      },
    };
  }

  async remove(name: string): Promise<void> {
    const target = await this.#target(name).catch(() => undefined);
    for (const one of [target, name + ENTRY, name]) if (one) await this.#drop(one);
  }

  async list(): Promise<{ name: string; bytes: number }[]> {
    const found: { name: string; bytes: number }[] = [];
    const walk = async (folder: Folder, path: string): Promise<void> => {
      for await (const [name, handle] of folder.entries()) {
        if (handle.kind === 'directory') await walk(handle as Folder, `${path}${name}/`);
        else found.push({ name: path + name, bytes: (await (handle as FileSystemFileHandle).getFile()).size });
      }
    };
    await walk(this.root, '');
    return found;
  }

  /** Where the bytes of an entry are. */
  async #target(name: string): Promise<string> {
    return (await (await this.#file(name + ENTRY)).getFile()).text();
  }

  async #point(name: string, bytes: string): Promise<void> {
    const access = await this.#access(name + ENTRY);
    access.truncate(0);
    written(access, new TextEncoder().encode(bytes), 0, name);
    access.flush();
    access.close();
  }

  async #access(name: string): Promise<Access> {
    try {
      const file: Handle = await this.#file(name, true);
      return await file.createSyncAccessHandle!();
    } catch (cause) {
      throw new FileAccessError(this.location(name), (cause as Error).message, 'Another page may be loading the same model: close it, or wait for it.', { cause });
    }
  }

  async #file(name: string, create = false): Promise<FileSystemFileHandle> {
    const steps = name.split('/');
    let folder: FileSystemDirectoryHandle = this.root;
    for (const step of steps.slice(0, -1)) folder = await folder.getDirectoryHandle(step, { create });
    return folder.getFileHandle(steps.at(-1)!, { create });
  }

  async #drop(name: string): Promise<void> {
    const steps = name.split('/');
    try {
      let folder: FileSystemDirectoryHandle = this.root;
      for (const step of steps.slice(0, -1)) folder = await folder.getDirectoryHandle(step);
      await folder.removeEntry(steps.at(-1)!, { recursive: true });
    } catch (error) {
      if ((error as Error).name !== 'NotFoundError') throw error;
    }
  }
}

function written(access: Access, bytes: Uint8Array, at: number, name: string): void {
  let done = 0;
  try {
    done = access.write(bytes, { at });
  } catch (cause) {
    throw new FileAccessError(PREFIX + name, (cause as Error).message, 'The browser gives this page no more storage: free some, or use a smaller model.', { cause });
  }
  if (done < bytes.length) throw new FileAccessError(PREFIX + name, `${done} of ${bytes.length} bytes were written`, 'The browser gives this page no more storage: free some, or use a smaller model.');
}

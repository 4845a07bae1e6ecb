/** Downloads in a folder, in runtimes with files: entry NAME, and NAME.VERSION.part while it is on its way. */
import { FileAccessError } from '../errors.js';
import type { ByteSink } from '../formats/packed-writer.js';
import { builtin } from '../platform/builtin.js';
import { attemptOr, fileSink } from '../platform/platform.js';
import type { Part, Store } from './store.js';

const attempt = attemptOr('set LUTRA_CACHE to another folder');

/** `$XDG_CACHE_HOME/lutra`, the system's folder for caches otherwise. */
export function cacheFolder(): string {
  const home = builtin('node:os').homedir(), { env, platform } = process;
  if (env.LUTRA_CACHE) return env.LUTRA_CACHE;
  if (env.XDG_CACHE_HOME) return `${env.XDG_CACHE_HOME}/lutra`;
  if (platform === 'win32') return `${env.LOCALAPPDATA ?? `${home}/AppData/Local`}/lutra/cache`;
  return platform === 'darwin' ? `${home}/Library/Caches/lutra` : `${home}/.cache/lutra`;
}

export class FolderStore implements Store {
  constructor(readonly folder: string) {}

  location(name: string): string {
    return `${this.folder}/${name}`;
  }

  has(name: string): Promise<boolean> {
    return isFile(this.location(name));
  }

  async part(name: string, version: string): Promise<Part> {
    const { open, rename, rm } = builtin('node:fs/promises');
    const path = await this.#make(name), partial = `${path}.${version}.part`;
    const handle = await attempt(partial, open(partial, 'r+').catch(() => open(partial, 'w+')));
    const { size } = await handle.stat();
    return {
      size,
      async read(target, offset) {
        const { bytesRead } = await attempt(partial, handle.read(target, 0, target.length, offset));
        if (bytesRead < target.length) throw new FileAccessError(partial, 'became shorter', 'Start again.');
      },
      async write(bytes, offset) {
        for (let done = 0; done < bytes.length;) {
          done += (await attempt(partial, handle.write(bytes, done, bytes.length - done, offset + done))).bytesWritten;
        }
      },
      truncate: length => attempt(partial, handle.truncate(length)),
      async finish() {
        await attempt(partial, handle.sync());
        await handle.close();
        // Somebody else may have finished the same file.
        await attempt(path, rename(partial, path).catch(async error => {
          if (!await isFile(path)) throw error;
        }));
      },
      close: () => handle.close(),
      async remove() {
        await handle.close();
        await attempt(partial, rm(partial, { force: true }));
      },
    };
  }

  async sink(name: string): Promise<ByteSink> {
    return fileSink(await this.#make(name));
  }

  async remove(name: string): Promise<void> {
    await attempt(this.folder, builtin('node:fs/promises').rm(this.location(name), { recursive: true, force: true }));
  }

  async list(): Promise<{ name: string; bytes: number }[]> {
    const { readdir, stat } = builtin('node:fs/promises');
    const found = await readdir(this.folder, { recursive: true, withFileTypes: true }).catch(() => []);
    return Promise.all(found.filter(entry => entry.isFile()).map(async entry => {
      const path = `${entry.parentPath}/${entry.name}`;
      return { name: path.slice(this.folder.length + 1), bytes: (await stat(path)).size };
    }));
  }

  /** The path of an entry, in a folder that is there. */
  async #make(name: string): Promise<string> {
    const path = this.location(name);
    await attempt(path, builtin('node:fs/promises').mkdir(path.slice(0, path.lastIndexOf('/')), { recursive: true }));
    return path;
  }
}

async function isFile(path: string): Promise<boolean> {
  return builtin('node:fs/promises').stat(path).then(stat => stat.isFile(), () => false);
}

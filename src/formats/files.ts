/** Files by their location: a path, or an address on a server that somebody has opened. */
import { FileAccessError } from '../errors.js';
import { openFile as openLocal } from '../platform/platform.js';
import type { ByteSource } from './types.js';

type Opener = (location: string) => Promise<ByteSource>;
const openers = new Map<string, Opener>();

/** Locations that begin with `prefix` are opened by `open` from now on. */
export function addOpener(prefix: string, open: Opener): void {
  openers.set(prefix, open);
}

/** During `work` locations that begin with `prefix` are opened by `open`. */
export async function withOpener<T>(prefix: string, open: Opener, work: () => Promise<T>): Promise<T> {
  openers.set(prefix, open);
  try {
    return await work();
  } finally {
    openers.delete(prefix);
  }
}

/** Opens a file for random access. */
export function openFile(location: string): Promise<ByteSource> {
  for (const [prefix, open] of openers) if (location.startsWith(prefix)) return open(location);
  return openLocal(location);
}

/** Undefined where there is no such file. */
export async function openIfThere(location: string): Promise<ByteSource | undefined> {
  try {
    return await openFile(location);
  } catch (error) {
    const code = ((error as Error).cause as { code?: string } | undefined)?.code;
    if (error instanceof FileAccessError && (code === 'ENOENT' || code === 'ENOTDIR')) return undefined;
    throw error;
  }
}

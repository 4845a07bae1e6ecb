/** Files that may or may not be there. */
import { FileAccessError } from '../errors.js';
import { openFile } from '../platform/platform.js';
import type { ByteSource } from './types.js';

/** Undefined where there is no such file. */
export async function openIfThere(path: string): Promise<ByteSource | undefined> {
  try {
    return await openFile(path);
  } catch (error) {
    const code = ((error as Error).cause as { code?: string } | undefined)?.code;
    if (error instanceof FileAccessError && (code === 'ENOENT' || code === 'ENOTDIR')) return undefined;
    throw error;
  }
}

/** What the surroundings say of downloads. */
import { isServer } from '../platform/builtin.js';
import type { RemoteOptions } from './download.js';
import { CacheStore } from './cache-store.js';
import { cacheFolder, FolderStore } from './folder-store.js';
import { memoryStore } from './memory-store.js';
import { OpfsStore } from './opfs-store.js';
import type { Store } from './store.js';

/** The folder for caches, or the browser's own files, or its Cache Storage (WebKitGTK has no files); without them memory: every start downloads anew. */
export async function openStore(): Promise<Store> {
  return isServer ? new FolderStore(cacheFolder()) : await OpfsStore.open() ?? await CacheStore.open() ?? memoryStore;
}

export function hubOptions(token?: string): RemoteOptions {
  const { HF_ENDPOINT, HF_TOKEN } = (isServer ? process.env : {}) as Record<string, string | undefined>;
  return { endpoint: HF_ENDPOINT || 'https://huggingface.co', token: token ?? (HF_TOKEN || undefined) };
}

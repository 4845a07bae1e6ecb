/** Models on servers: looked at by their headers, then brought into the store as a whole. */
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { BadArgumentError, DownloadError, FileAccessError } from '../errors.js';
import { openFile, withOpener } from '../formats/files.js';
import type { ByteSource } from '../formats/types.js';
import { isServer } from '../platform/builtin.js';
import { fetchFile } from './fetch-file.js';
import type { HttpOptions } from './http.js';
import { findModel, hubBase, isHubName, listedChecksum, parseHubName } from './hub.js';
import { openRemote, probe, type RemoteFile } from './remote-file.js';
import type { Store } from './store.js';

export interface RemoteOptions {
  /** Address of the hub. */
  endpoint: string;
  /** Access token for the hub; no other host sees it. */
  token?: string | undefined;
  signal?: AbortSignal | undefined;
  retryDelay?: number | undefined;
  silence?: number | undefined;
}

/** Files that a reader wants as a whole. */
const SMALL = /\.(json|jinja|txt)$/;
const SMALL_LIMIT = 256 << 20;

export const isRemote = (location: string): boolean => isHubName(location) || /^https?:\/\//i.test(location);

/** A model at its place on a server. */
export class RemoteModel {
  /** Names of its files in a store begin with this and a slash. */
  readonly folder: string;
  readonly #location: string;
  readonly #options: RemoteOptions;

  /** @throws BadArgumentError */
  constructor(location: string, options: RemoteOptions) {
    this.#location = location;
    this.#options = options;
    if (isHubName(location)) {
      const { repo, revision, file } = parseHubName(location), host = new URL(options.endpoint).host.replace(':', '_');
      this.folder = `hub/${host}/${repo}/${revision}`;
      this.file = file;
      this.#base = hubBase(options.endpoint, { repo, revision, file });
    } else {
      const { origin, host, pathname, search } = new URL(location), at = pathname.lastIndexOf('/') + 1;
      const base = origin + pathname.slice(0, at - 1);
      this.folder = `web/${host.replace(':', '_')}/${bytesToHex(sha256(new TextEncoder().encode(base))).slice(0, 16)}`;
      this.file = decodeURIComponent(pathname.slice(at));
      if (!/^[\w.@+= -]*[\w@+=-]$/.test(this.file)) throw new BadArgumentError('source', `${location} names no file`, 'Give the address of a model file, or hf:ORG/REPO.');
      this.#base = base;
      this.#query = search;
    }
  }

  /** The model's file, '' for a folder, undefined while that is not known. */
  file: string | undefined;
  readonly #base: string;
  readonly #query: string = '';

  /** Runs `work` on a location from which headers can be read; nothing is kept. */
  async inspect<T>(work: (location: string) => Promise<T>): Promise<T> {
    const file = await this.#find();
    return withOpener(this.#base, location => this.#open(location, async http => openRemote(await probe(this.#url(location), http), http)), () => work(this.#join(this.#base, file)));
  }

  /**
   * Where in the store the model is; fetched if it is not there. What was fetched once is not asked for again.
   * @param check looks at headers, before anything large is fetched
   * @param onProgress bytes that are there, and bytes of all
   */
  async fetch(store: Store, check: (location: string) => Promise<void>, onProgress: (loaded: number, total: number) => void): Promise<string> {
    const marker = `${this.folder}/${this.file === undefined ? '' : `${this.file}.`}complete`;
    if (await store.has(marker)) {
      const { file, files } = JSON.parse(new TextDecoder().decode(await readWhole(store.location(marker)))) as { file: string; files: string[] };
      if ((await Promise.all(files.map(name => store.has(`${this.folder}/${name}`)))).every(Boolean)) return this.#join(store.location(this.folder), file);
    }
    const file = await this.#find(), wanted = new Map<string, RemoteFile>();
    const open = (location: string) => this.#open(location, async http => {
      const name = this.#name(location), entry = `${this.folder}/${name}`;
      const remote = await probe(this.#url(location), http);
      if (!isServer && !SMALL.test(name)) remote.sha256 ??= await listedChecksum(remote.url, http);
      wanted.set(name, remote);
      if (await store.has(entry)) return openFile(store.location(entry));
      const small = SMALL.test(name);
      if (!small && remote.ranges) return openRemote(remote, http);
      if (small && (remote.size ?? 0) > SMALL_LIMIT) throw new DownloadError(remote.url, 200, `${remote.size} bytes of text`, 'Check the address.');
      await fetchFile(remote, store, entry, http, small ? undefined : loaded => onProgress(loaded, remote.size ?? loaded));
      return openFile(store.location(entry));
    });
    await withOpener(this.#base, open, () => check(this.#join(this.#base, file)));
    let before = 0;
    const total = [...wanted.values()].reduce((sum, { size = 0 }) => sum + size, 0);
    for (const [name, remote] of wanted) {
      const entry = `${this.folder}/${name}`;
      if (!await store.has(entry)) await fetchFile(remote, store, entry, this.#http(), loaded => onProgress(before + loaded, Math.max(total, before + loaded)));
      before += remote.size ?? 0;
      onProgress(before, Math.max(total, before));
    }
    await write(store, marker, JSON.stringify({ file, files: [...wanted.keys()] }));
    return this.#join(store.location(this.folder), file);
  }

  async #find(): Promise<string> {
    return this.file ?? await findModel(this.#options.endpoint, parseHubName(this.#location), this.#http());
  }

  /** An address that is not there is a file that is not there. */
  async #open(location: string, open: (http: HttpOptions) => Promise<ByteSource>): Promise<ByteSource> {
    try {
      return await open(this.#http());
    } catch (error) {
      if (error instanceof DownloadError && error.status === 404) throw new FileAccessError(location, 'HTTP status 404', error.hint, { cause: { code: 'ENOENT' } });
      throw error;
    }
  }

  #http(): HttpOptions {
    const { endpoint, token, ...options } = this.#options;
    return { ...options, token: new URL(this.#base).origin === new URL(endpoint).origin ? token : undefined };
  }

  /** In the store; a name from a header is not believed. */
  #name(location: string): string {
    const name = location.slice(this.#base.length + 1);
    if (!name.split('/').every(step => /^[\w@+= -][\w.@+= -]*$/.test(step))) throw new DownloadError(location, 0, 'is no name of a file', 'The model is not sound: use another one.');
    return name;
  }

  #url(location: string): string {
    return this.#base + location.slice(this.#base.length).split('/').map(encodeURIComponent).join('/') + this.#query;
  }

  #join(base: string, file: string): string {
    return file === '' ? base : `${base}/${file}`;
  }
}

async function readWhole(location: string): Promise<Uint8Array> {
  const file = await openFile(location);
  try {
    const bytes = new Uint8Array(file.size);
    await file.read(bytes, 0);
    return bytes;
  } finally {
    await file.close();
  }
}

async function write(store: Store, name: string, text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text), sink = await store.sink(name);
  await sink.begin(bytes.length);
  await sink.write(bytes, 0);
  await sink.finish();
}

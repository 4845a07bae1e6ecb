/** A file on a server: what is known of it, and reading parts of it. */
import { DownloadError } from '../errors.js';
import { checkRange } from '../formats/bytes.js';
import type { ByteSource } from '../formats/types.js';
import { get, readAll, type HttpOptions } from './http.js';

export interface RemoteFile {
  url: string;
  /** Bytes; undefined where the server does not say. */
  size: number | undefined;
  /** Parts of it can be asked for. */
  ranges: boolean;
  /** Changes when the content does; undefined where the server has no such name for it. */
  version: string | undefined;
  /** What the server that sends the bytes calls them: another name perhaps, where the address leads elsewhere. */
  etag: string | undefined;
  /** 64 hex digits, where it is known. */
  sha256: string | undefined;
}

/** Asks for the first byte, which tells more than HEAD on many servers. */
export async function probe(url: string, options: HttpOptions): Promise<RemoteFile> {
  const reply = await get(url, { range: 'bytes=0-0' }, options, reply => reply);
  reply.cancel();
  const { status, headers } = reply, range = contentRange(headers);
  const announced = range?.total ?? headers.get('x-linked-size') ?? (status === 200 ? headers.get('content-length') : null);
  const size = announced === null ? undefined : Number(announced);
  if (size !== undefined && !(Number.isSafeInteger(size) && size >= 0)) throw new DownloadError(url, status, `a size of ${announced} bytes`, 'Check the address.');
  // Weak names stand for several contents.
  const strong = (name: string) => /^"[\x21\x23-\x7e]{1,256}"$/.exec(headers.get(name) ?? '')?.[0];
  return {
    url, size, ranges: status === 206, version: strong('x-linked-etag') ?? strong('etag') ?? headers.get('last-modified') ?? undefined,
    etag: headers.get('etag') ?? undefined,
    sha256: /^"([0-9a-f]{64})"$/.exec(strong('x-linked-etag') ?? '')?.[1],
  };
}

export function contentRange(headers: Headers): { begin: number; total: number } | undefined {
  const [, begin, total] = /^bytes (\d{1,16})-\d{1,16}\/(\d{1,16})$/.exec(headers.get('content-range') ?? '') ?? [];
  return begin === undefined ? undefined : { begin: Number(begin), total: Number(total) };
}

/** Reads parts of the file as they are asked for: for headers, not for weights. */
export function openRemote({ url, size, ranges }: RemoteFile, options: HttpOptions): ByteSource {
  if (size === undefined || (!ranges && size > 0)) throw new DownloadError(url, 200, 'this server sends whole files only', 'Download the file by other means and give its path.');
  const source: ByteSource = {
    name: url, size,
    async read(target, offset) {
      checkRange(source, offset, target.length, 'bytes');
      if (target.length === 0) return;
      await get(url, { range: `bytes=${offset}-${offset + target.length - 1}` }, options, async reply => {
        if (reply.status !== 206 || contentRange(reply.headers)?.begin !== offset) {
          reply.cancel();
          throw new DownloadError(url, reply.status, 'another part of the file than the one asked for', 'Check the address.');
        }
        const bytes = await readAll(url, reply, target.length);
        if (bytes.length !== target.length) throw new DownloadError(url, reply.status, `${bytes.length} of ${target.length} bytes`, 'Try again.', { transient: true });
        target.set(bytes);
      });
    },
    async close() {},
  };
  return source;
}

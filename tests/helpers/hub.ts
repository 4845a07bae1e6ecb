/** A server that behaves like a hub: small files by itself, large ones by a redirect to another host. Faults on demand. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface HubFile {
  bytes: Uint8Array;
  /** Kept elsewhere, its SHA-256 named in the redirect. */
  lfs?: boolean;
  /** What the file claims to be; zeros follow the bytes. */
  size?: number;
}

export interface Faults {
  /** For each request of the rest of a large file, in turn: cut after so many bytes. */
  cuts?: number[];
  /** For each request of a file, in turn: a status instead of an answer. */
  statuses?: number[];
  retryAfter?: string;
  noRanges?: boolean;
  noEtag?: boolean;
  /** Claimed in place of the true one. */
  sha256?: string;
  token?: string;
  /** Answers anything the server would. True: the request was dealt with. */
  handle?: (request: IncomingMessage, response: ServerResponse) => boolean;
}

export interface Request { host: 'hub' | 'store'; path: string; range: string | undefined; authorization: string | undefined; sent: number }

export interface Hub {
  endpoint: string;
  files: Map<string, HubFile>;
  faults: Faults;
  requests: Request[];
  close(): Promise<void>;
}

export async function startHub(repo: string, content: Record<string, Uint8Array | HubFile>): Promise<Hub> {
  const files = new Map(Object.entries(content).map(([name, file]) => [name, file instanceof Uint8Array ? { bytes: file, lfs: /\.(safetensors|gguf|bin)$/.test(name) } : file]));
  const hub: Hub = { endpoint: '', files, faults: {}, requests: [], close: async () => { for (const server of [front, store]) { server.closeAllConnections(); await new Promise(resolve => server.close(resolve)); } } };
  const hash = (file: HubFile) => hub.faults.sha256 ?? createHash('sha256').update(file.bytes).digest('hex');

  const serve = (host: Request['host'], request: IncomingMessage, response: ServerResponse, file: HubFile, etag: string) => {
    const { faults } = hub, size = file.size ?? file.bytes.length;
    const [, from, to] = (!faults.noRanges && /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')) || [];
    const begin = from === undefined ? 0 : Number(from), end = to ? Math.min(Number(to) + 1, size) : size;
    if (begin >= end && size > 0) return response.writeHead(416, { 'content-range': `bytes */${size}` }).end();
    response.writeHead(from === undefined ? 200 : 206, {
      'access-control-allow-origin': '*', 'access-control-expose-headers': '*',
      'content-length': end - begin, ...(!faults.noEtag && { etag: `"${etag}"` }), ...(from !== undefined && { 'content-range': `bytes ${begin}-${end - 1}/${size}` }),
    });
    const cut = !to && host === 'store' ? faults.cuts?.shift() : undefined;
    const body = Buffer.alloc(Math.min(end - begin, cut ?? Infinity, 64 << 20));
    body.set(file.bytes.subarray(begin, begin + body.length));
    hub.requests.at(-1)!.sent = body.length;
    if (cut === undefined || cut >= end - begin) return response.end(body);
    response.write(body, () => setTimeout(() => response.destroy(), 100));
  };
  const listen = async (host: Request['host'], answer: (request: IncomingMessage, response: ServerResponse, path: string) => unknown) => {
    const server = createServer((request, response) => {
      const path = decodeURIComponent(request.url!.split('?')[0]!), { faults } = hub;
      hub.requests.push({ host, path, range: request.headers.range, authorization: request.headers.authorization, sent: 0 });
      if (faults.handle?.(request, response)) return;
      const status = faults.statuses?.shift();
      if (status && status !== 200) return response.writeHead(status, faults.retryAfter ? { 'retry-after': faults.retryAfter } : {}).end();
      answer(request, response, path);
    });
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    return server;
  };
  const address = (server: Awaited<ReturnType<typeof listen>>, name: string) => `http://${name}:${(server.address() as AddressInfo).port}`;

  const store = await listen('store', (request, response, path) => {
    const file = files.get(path.slice(1));
    if (!file) return response.writeHead(404).end();
    // A name of its own, as hubs have it.
    serve('store', request, response, file, `store-${hash(file).slice(0, 32)}`);
  });
  const front = await listen('hub', (request, response, path) => {
    if (hub.faults.token && request.headers.authorization !== `Bearer ${hub.faults.token}`) return response.writeHead(401).end();
    if (path === `/api/models/${repo}/tree/main`) {
      return response.setHeader('access-control-allow-origin', '*').end(JSON.stringify([...files].map(([name, file]) => ({ type: 'file', path: name, size: file.bytes.length, ...(file.lfs && { lfs: { oid: hash(file) } }) }))));
    }
    const name = path.startsWith(`/${repo}/resolve/main/`) ? path.slice(`/${repo}/resolve/main/`.length) : '', file = files.get(name);
    if (!file) return response.writeHead(404, { 'access-control-allow-origin': '*' }).end();
    if (!file.lfs) return serve('hub', request, response, file, createHash('sha1').update(file.bytes).digest('hex'));
    response.writeHead(302, {
      'access-control-allow-origin': '*', 'access-control-expose-headers': '*',
      location: `${address(store, '127.0.0.1')}/${encodeURIComponent(name)}?signature=x`, 'x-linked-etag': `"${hash(file)}"`, 'x-linked-size': file.size ?? file.bytes.length, 'x-repo-commit': 'c0ffee',
    }).end();
  });
  // The same machine by another name is another host.
  hub.endpoint = address(front, 'localhost');
  return hub;
}

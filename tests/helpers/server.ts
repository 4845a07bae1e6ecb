/** The checkout over HTTP on this machine, with or without the headers that isolate a page. */
import { createServer, type IncomingMessage } from 'node:http';
import { readFile, stat } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';
import { repoRoot } from './paths.js';

const types: Record<string, string> = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css', '.json': 'application/json', '.wasm': 'application/wasm', '.svg': 'image/svg+xml',
};

export interface ServerOptions {
  /** Send COOP and COEP, so that pages may share memory between threads. */
  isolated?: boolean;
  /** Folder that is served. Default: the checkout. */
  folder?: string;
  /** Pages by path, before the folder is looked at. */
  pages?: Record<string, string>;
  /** Files elsewhere, by path. */
  files?: Record<string, string>;
  /** Called with the JSON that a page posts to /report. */
  onReport?: (report: any) => void;
}

export async function startServer({ isolated = false, folder = repoRoot, pages = {}, files = {}, onReport = () => {} }: ServerOptions): Promise<{ origin: string; close(): Promise<void> }> {
  const isolation: Record<string, string> = isolated ? { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' } : {};
  const server = createServer((request, response) => {
    void answer(request).then(({ status = 200, type = 'text/plain', body }) => {
      response.writeHead(status, { ...isolation, 'content-type': type, 'cache-control': 'no-store', 'access-control-allow-origin': '*', 'cross-origin-resource-policy': 'cross-origin', 'access-control-allow-headers': '*' });
      response.end(body);
    });
  });
  const answer = async (request: IncomingMessage): Promise<{ status?: number; type?: string; body: string | Buffer }> => {
    const path = decodeURIComponent(new URL(request.url!, 'http://localhost').pathname);
    if (request.method === 'OPTIONS') return { body: '' };
    if (request.method === 'POST' && path === '/report') {
      let text = '';
      for await (const chunk of request.setEncoding('utf8')) text += chunk;
      onReport(JSON.parse(text));
      return { body: '' };
    }
    if (pages[path] !== undefined) return { type: types['.html']!, body: pages[path] };
    let file = files[path] ?? join(folder, normalize(path));
    try {
      if ((await stat(file)).isDirectory()) file = join(file, 'index.html');
      return { type: types[extname(file)] ?? 'application/octet-stream', body: await readFile(file) };
    } catch {
      return { status: 404, body: 'not found' };
    }
  };
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => new Promise(resolve => {
      server.close(() => resolve());
      server.closeAllConnections();
    }),
  };
}

/**
 * `npm run web [-- --port N] [-- --no-isolation]`: builds, then serves the checkout on this machine for the demo page.
 * Isolated pages (COOP and COEP) may share memory between threads; `--no-isolation` shows the page without that.
 */
import { createServer } from 'node:http';
import { createReadStream, promises } from 'node:fs';
import { extname, join, normalize } from 'node:path';
import { BuildError, ifMain, root, say } from './util.mjs';

const types = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css',
  '.json': 'application/json', '.wasm': 'application/wasm', '.svg': 'image/svg+xml', '.png': 'image/png',
};
const isolation = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };

/**
 * @typedef {object} ServerOptions
 * @property {boolean} [isolated] send COOP and COEP. Default false
 * @property {string} [folder] what is served. Default: the checkout
 * @property {Record<string, string | (() => string)>} [pages] HTML by path, before the folder is looked at
 * @property {Record<string, string>} [files] files elsewhere, by path
 * @property {(report: any) => void} [onReport] called with the JSON that a page posts to /report
 * @property {number} [port] default: any free one
 *
 * @param {ServerOptions} [options]
 * @returns {Promise<{ origin: string, close(): Promise<void> }>} on the loopback address
 */
export async function startServer({ isolated = false, folder = root, pages = {}, files = {}, onReport = () => {}, port = 0 } = {}) {
  const server = createServer(async (request, response) => {
    const headers = { ...isolated && isolation, 'cache-control': 'no-store', 'access-control-allow-origin': '*', 'access-control-expose-headers': '*', 'cross-origin-resource-policy': 'cross-origin' };
    const answer = (status, type, body = '') => response.writeHead(status, { ...headers, 'content-type': type }).end(body);
    try {
      const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
      if (request.method === 'POST' && path === '/report') {
        let text = '';
        for await (const chunk of request.setEncoding('utf8')) text += chunk;
        onReport(JSON.parse(text));
        return answer(204, 'text/plain');
      }
      const page = pages[path];
      if (page !== undefined) return answer(200, types['.html'], typeof page === 'function' ? page() : page);
      let file = files[path] ?? join(folder, normalize(path));
      if ((await promises.stat(file)).isDirectory()) {
        if (!path.endsWith('/')) return response.writeHead(302, { location: `${path}/` }).end();
        file = join(file, 'index.html');
      }
      const { size, mtimeMs } = await promises.stat(file), [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
      const start = Number(from ?? 0), end = Math.min(to ? Number(to) : Infinity, size - 1);
      if (from && start > end) return answer(416, 'text/plain');
      response.writeHead(from ? 206 : 200, {
        ...headers, 'content-type': types[extname(file)] ?? 'application/octet-stream', 'content-length': end + 1 - start, etag: `"${size}-${mtimeMs}"`,
        ...from && { 'content-range': `bytes ${start}-${end}/${size}` },
      });
      createReadStream(file, { start, end: Math.max(end, start) }).on('error', () => response.destroy()).pipe(response);
    } catch (error) {
      answer(['ENOENT', 'ENOTDIR'].includes(error.code) ? 404 : 400, 'text/plain', error.message);
    }
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    close: () => new Promise(resolve => {
      server.close(resolve);
      server.closeAllConnections();
    }),
  };
}

await ifMain(import.meta, async args => {
  const port = Number(args.includes('--port') ? args[args.indexOf('--port') + 1] : 8080);
  const isolated = !args.includes('--no-isolation');
  const { build } = await import('./build.mjs');
  await build();
  const { origin } = await startServer({ port, isolated }).catch(error => {
    throw new BuildError(error.code === 'EADDRINUSE' ? `Port ${port} is in use. Another one: npm run web -- --port ${port + 1}` : error.message);
  });
  say(`\n${origin}/examples/web/   ${isolated ? 'isolated: threads share memory' : 'not isolated: one thread'}; Ctrl-C ends it`);
});

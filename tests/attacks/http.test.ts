// serial
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RemoteModel } from '../../src/download/download.js';
import { FolderStore } from '../../src/download/folder-store.js';
import { detect } from '../../src/formats/detect.js';
import { startHub, type Hub } from '../helpers/hub.js';

const test = suite('hostile servers');
let hub: Hub, folder: string;
test.before(async () => { hub = await startHub('org/repo', {}); });
test.after(() => hub.close());
test.before.each(() => { folder = mkdtempSync(join(tmpdir(), 'lutra-store-')); });
test.after.each(() => rmSync(folder, { recursive: true }));

const bomb = gzipSync(Buffer.alloc(200 << 20, ' '));
const MIB = Buffer.alloc(1 << 20, '[');
function endless(response: ServerResponse, piece: Uint8Array): void {
  // One at a time: a response whose client has gone may take all that it is given, and say so at once.
  const more = () => { if (!response.destroyed) response.write(piece, error => { if (!error) setImmediate(more); }); };
  response.on('error', () => {});
  more();
}
/** Answers of a server that was asked for `url`. */
const answers: Record<string, { source?: string; codes?: string[]; answer(response: ServerResponse, url: string, range: string | undefined): void }> = {
  'a list of files without an end': { source: 'hf:org/repo', answer: response => endless(response, MIB) },
  'a list that unpacks to much': { source: 'hf:org/repo', answer: response => { response.writeHead(200, { 'content-encoding': 'gzip' }).end(bomb); } },
  'a list of brackets': { source: 'hf:org/repo', answer: response => { response.end(Buffer.alloc(8 << 20, '[')); } },
  'a list of nonsense': { source: 'hf:org/repo', answer: response => { response.end('[3, null, {"type": "file"}, {"type": "file", "path": 3}, {"path": "x.gguf"}]'); } },
  'a list with a name that leads away': { source: 'hf:org/repo', answer: (response, url) => { response.end(url.startsWith('/api') ? '[{"type": "file", "path": "../../../x.gguf"}]' : 'x'); }, codes: ['DOWNLOAD', 'BAD_ARGUMENT'] },
  'a redirect to itself': { answer: (response, url) => { response.writeHead(302, { location: url }).end(); } },
  'a redirect to a file': { answer: response => { response.writeHead(302, { location: 'file:///etc/passwd' }).end(); } },
  'a redirect to data': { answer: response => { response.writeHead(302, { location: 'data:text/plain,x' }).end(); } },
  'a redirect to nowhere': { answer: response => { response.writeHead(302).end(); } },
  'a redirect to nonsense': { answer: response => { response.writeHead(302, { location: 'http://[' }).end(); } },
  'a size beyond all numbers': { answer: response => { response.writeHead(206, { 'content-range': 'bytes 0-0/9999999999999999' }).end('x'); } },
  'a size that is a lie': { answer: response => { response.writeHead(206, { 'content-range': 'bytes 0-0/1000000000000' }).end('x'); } },
  'another range': { answer: response => { response.writeHead(206, { 'content-range': 'bytes 5-5/100' }).end('x'); } },
  'no body': { answer: response => { response.writeHead(206, { 'content-range': 'bytes 0-0/100' }).end(); } },
  'a body without an end': { answer: response => { response.writeHead(206, { 'content-range': 'bytes 0-0/100' }); endless(response, MIB); } },
  'a whole file in place of a part, without an end': { answer: response => { response.writeHead(200); endless(response, MIB); } },
  'a body that unpacks to much': { answer: (response, _, range) => {
    response.writeHead(206, { 'content-range': range === 'bytes=0-0' ? 'bytes 0-0/100' : 'bytes 0-27/100', 'content-encoding': 'gzip' }).end(bomb);
  } },
  silence: { answer: () => {} },
  'silence after the headers': { answer: response => { response.writeHead(206, { 'content-range': 'bytes 0-0/100' }).flushHeaders(); } },
  'a connection that is closed': { answer: response => { response.destroy(); } },
  'text in place of HTTP': { answer: response => { response.socket!.end('hello\r\n\r\n'); } },
  'headers without an end': { answer: response => { response.socket!.write(`HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(100_000)}`); } },
};

for (const [name, { source = 'hf:org/repo/model.gguf', codes = ['DOWNLOAD', 'BAD_MODEL_FILE'], answer }] of Object.entries(answers)) {
  test(`${name}: a typed error within 2 s and 64 MiB, nothing kept`, async () => {
    hub.faults = { handle: (request, response) => {
      if (/\/config\.json$/.test(request.url!)) response.writeHead(404).end();
      else answer(response, request.url!, request.headers.range);
      return true;
    } };
    const model = new RemoteModel(source, { endpoint: hub.endpoint, retryDelay: 1, silence: 200 });
    const memory = process.memoryUsage(), time = process.cpuUsage(), begin = performance.now();
    const error = await model.fetch(new FolderStore(folder), async location => { await detect(location); }, () => {}).then(() => assert.unreachable('accepted'), error => error);
    const after = process.memoryUsage(), cpu = process.cpuUsage(time);
    assert.ok(codes.includes(error.code) && error.hint, error.stack);
    // The process is server and victim in one: time that passes is the machine's affair, but nobody waits forever.
    assert.ok((cpu.user + cpu.system) / 1e6 < 2 && performance.now() - begin < 20_000, `${cpu.user / 1e6} s`);
    assert.ok(after.heapUsed + after.external - memory.heapUsed - memory.external < 64 << 20, `${after.external - memory.external >> 20} MiB`);
    assert.equal(await new FolderStore(folder).list(), []);
    assert.not.ok(existsSync(join(folder, '../x.gguf')));
  });
}

test.run();

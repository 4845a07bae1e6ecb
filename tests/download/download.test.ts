import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RemoteModel } from '../../src/download/download.js';
import { FolderStore } from '../../src/download/folder-store.js';
import type { Store } from '../../src/download/store.js';
import { openFile } from '../../src/formats/files.js';
import { startHub, type Faults, type Hub } from '../helpers/hub.js';

const test = suite('downloads');
const SIZE = 300_000;
const bytes = Uint8Array.from({ length: SIZE }, (_, i) => (i * 7919 >> 3) & 255);

let hub: Hub, folder: string, store: Store;
test.before(async () => { hub = await startHub('org/repo', { 'model.gguf': bytes, 'notes.txt': Buffer.from('text') }); });
test.after(() => hub.close());
test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'lutra-store-'));
  store = new FolderStore(folder);
  hub.faults = {};
  hub.requests.length = 0;
});
test.after.each(() => rmSync(folder, { recursive: true }));

interface How { faults?: Faults; signal?: AbortSignal; token?: string; onProgress?: (loaded: number) => void }

/** Downloads the file, as a reader that only looks at it would cause. */
function download({ faults, onProgress, ...how }: How = {}, location = 'hf:org/repo/model.gguf'): Promise<string> {
  if (faults) hub.faults = faults;
  const model = new RemoteModel(location, { endpoint: hub.endpoint, retryDelay: 1, silence: 2000, ...how });
  return model.fetch(store, async remote => { await (await openFile(remote)).close(); }, loaded => onProgress?.(loaded));
}
const failure = (how: How = {}, location?: string) => download(how, location).then(() => assert.unreachable('accepted'), error => error);
const entries = async () => (await store.list()).map(({ name }) => name.split('/').at(-1)!);
const sent = () => hub.requests.filter(request => request.host === 'store').reduce((sum, request) => sum + request.sent, 0);
const whole = (path: string) => assert.ok(readFileSync(path).equals(bytes), 'the bytes differ');

test('a file comes with its checksum checked; the second time from the store', async () => {
  const progress: number[] = [];
  whole(await download({ onProgress: loaded => progress.push(loaded) }));
  assert.is(progress.at(-1), SIZE);
  hub.requests.length = 0;
  whole(await download());
  assert.is(hub.requests.length, 0);
});

for (let tenth = 0; tenth <= 10; tenth++) {
  test(`cut at ${tenth} tenths: resumes within the same download, and in the next one`, async () => {
    const cut = SIZE * tenth / 10;
    whole(await download({ faults: { cuts: [cut] } }));
    // What was on the way when the connection broke may be lost; nothing else is sent twice, but the byte of the first look.
    const resumed = Number(/bytes=(\d+)-/.exec(hub.requests.at(-1)!.range ?? '')?.[1] ?? 0);
    assert.ok(resumed <= cut, `${resumed} of ${cut}`);
    assert.is(sent(), SIZE + 1 + (tenth < 10 ? cut - resumed : 0));

    rmSync(folder, { recursive: true });
    hub.requests.length = 0;
    const controller = new AbortController();
    // The one byte of the probe comes first.
    const error = await failure({ faults: { cuts: [cut] }, signal: controller.signal, onProgress: loaded => { if (loaded >= cut && tenth < 10) controller.abort(new Error('enough')); } }).catch(error => error);
    if (tenth < 10) {
      assert.is(error.message, 'enough');
      assert.ok((await entries()).every(name => name.endsWith('.part')));
    }
    hub.requests.length = 0;
    whole(await download());
    if (tenth > 0 && tenth < 10) {
      const range = hub.requests.filter(request => request.host === 'store').at(-1)!.range!;
      assert.ok(Number(/bytes=(\d+)-/.exec(range)![1]) >= cut, range);
    }
    assert.equal((await entries()).sort(), ['model.gguf', 'model.gguf.complete']);
  });
}

test('a wrong checksum: refused, and nothing is left', async () => {
  const error = await failure({ faults: { sha256: '0'.repeat(64) } });
  assert.is(error.code, 'DOWNLOAD');
  assert.match(error.message, /SHA-256/);
  assert.equal(await entries(), []);
});

test('a part that was spoiled on the disk is noticed', async () => {
  const controller = new AbortController();
  await failure({ signal: controller.signal, faults: { cuts: [1000] }, onProgress: loaded => { if (loaded >= 1000) controller.abort(); } });
  const { name } = (await store.list())[0]!;
  const part = await store.part(name.replace(/\.[0-9a-f]{16}\.part$/, ''), /([0-9a-f]{16})\.part$/.exec(name)![1]!);
  await part.write(Uint8Array.of(99, 99, 99), 10);
  await part.close();
  assert.match((await failure()).message, /SHA-256/);
  whole(await download());
});

test('the token goes to the hub and to nobody else', async () => {
  const refused = await failure({ faults: { token: 'secret' } });
  assert.is(refused.status, 401);
  assert.match(refused.hint, /HF_TOKEN/);
  hub.requests.length = 0;
  whole(await download({ token: 'secret' }));
  assert.ok(hub.requests.filter(request => request.host === 'hub').every(request => request.authorization === 'Bearer secret'));
  assert.ok(hub.requests.some(request => request.host === 'store'));
  assert.ok(hub.requests.filter(request => request.host === 'store').every(request => request.authorization === undefined));
});

test('what passes is tried again, what does not is not', async () => {
  whole(await download({ faults: { statuses: [429, 503, 200, 200, 500, 502] } }));
  assert.is((await failure({}, 'hf:org/repo/other.gguf')).code, 'FILE_ACCESS');
  for (const [status, requests] of [[403, 1], [410, 1], [429, 5], [503, 5]] as const) {
    hub.requests.length = 0;
    const error = await failure({ faults: { statuses: Array(9).fill(status) } }, 'hf:org/repo/notes.txt');
    assert.equal([error.code, error.status, hub.requests.length], ['DOWNLOAD', status, requests]);
  }
  await store.remove('hub');
  const begin = performance.now();
  whole(await download({ faults: { statuses: [429], retryAfter: '1' } }));
  assert.ok(performance.now() - begin >= 990, 'the server asked for a second');
});

test('without ranges, names of contents or sizes: whole, or not at all', async () => {
  const handle: Faults['handle'] = (request, response) => {
    if (!request.url!.startsWith('/model.gguf')) return false;
    response.writeHead(200).end(Buffer.from(bytes));
    return true;
  };
  const direct = async (faults: Faults) => {
    await store.remove('web');
    hub.faults = faults;
    const file = { url: `${hub.endpoint}/org/repo/resolve/main/model.gguf`, size: undefined, ranges: false, version: undefined, etag: undefined, sha256: undefined };
    const { fetchFile } = await import('../../src/download/fetch-file.js');
    await fetchFile(file, store, 'web/x', { retryDelay: 1 });
    whole(store.location('web/x'));
  };
  await direct({ handle });
  await direct({ noRanges: true, noEtag: true, cuts: [1000, 50_000] });
  assert.equal(await entries(), ['x']);
});

test('a server without ranges: whole, from the beginning after a cut; the second time from the store', async () => {
  whole(await download({ faults: { noRanges: true, cuts: [0, 100_000] } }));
  // The look at the header needs the file itself.
  assert.ok(hub.requests.filter(request => request.host === 'store').every(({ range }) => [undefined, 'bytes=0-0'].includes(range) || Number(/\d+/.exec(range!)![0]) > 0));
  hub.requests.length = 0;
  whole(await download());
  assert.is(hub.requests.length, 0);
  await store.remove('hub');
  assert.match((await failure({ faults: { noRanges: true, sha256: '0'.repeat(64) } })).message, /SHA-256/);
  assert.equal(await entries(), []);
  hub.faults = { noRanges: true };
  const error = await new RemoteModel('hf:org/repo/model.gguf', { endpoint: hub.endpoint, retryDelay: 1 }).inspect(openFile).then(() => assert.unreachable('opened'), error => error);
  assert.equal([error.code, /whole files only/.test(error.message)], ['DOWNLOAD', true]);
});

test('a file that changes on the way begins anew', async () => {
  const controller = new AbortController();
  await failure({ signal: controller.signal, faults: { cuts: [100_000] }, onProgress: loaded => { if (loaded >= 100_000) controller.abort(); } });
  const other = bytes.map(byte => byte ^ 1);
  hub.files.set('model.gguf', { bytes: other, lfs: true });
  assert.ok(readFileSync(await download()).equals(other));
  hub.files.set('model.gguf', { bytes, lfs: true });
});

test('two at once do no harm', async () => {
  const [one, two] = await Promise.all([download(), download({ faults: { cuts: [0, 0, 120_000, 70_000] } })]);
  assert.is(one, two);
  whole(one);
});

test('names', () => {
  const make = (location: string) => new RemoteModel(location, { endpoint: 'https://hub.example' });
  assert.equal([make('hf:a/b').folder, make('hf:a/b').file], ['hub/hub.example/a/b/main', undefined]);
  assert.equal([make('hf:a/b@v1/x/y.gguf').folder, make('hf:a/b@v1/x/y.gguf').file], ['hub/hub.example/a/b/v1', 'x/y.gguf']);
  assert.is(make('https://a.example/x/m.gguf?download=true').file, 'm.gguf');
  for (const bad of ['hf:', 'hf:a', 'hf:a/', 'hf:../b', 'hf:a/..', 'hf:a/b/../c', 'hf:a/b//c', 'hf:a/b/.c', 'hf:a/b@../c', 'hf:a b/c', 'https://a.example/', 'https://a.example/..%2fx', 'https://a.example/x/']) {
    assert.throws(() => make(bad), (error: any) => error.code === 'BAD_ARGUMENT', bad);
  }
});

test('which file of a repository is the model', async () => {
  const { findModel } = await import('../../src/download/hub.js');
  const find = async (...names: string[]) => {
    hub.faults = { handle: (request, response) => {
      if (!request.url!.startsWith('/api/')) return false;
      response.end(JSON.stringify(names.map(path => ({ type: 'file', path }))));
      return true;
    } };
    return findModel(hub.endpoint, { repo: 'org/repo', revision: 'main', file: undefined }, { retryDelay: 1 }).catch(error => error.code);
  };
  assert.is(await find('config.json', 'model.safetensors', 'tokenizer.json'), '');
  assert.is(await find('a.gguf', 'README.md'), 'a.gguf');
  assert.is(await find('a-00001-of-00002.gguf', 'a-00002-of-00002.gguf'), 'a-00001-of-00002.gguf');
  assert.is(await find('x.lutra.safetensors', 'config.json', 'a.gguf'), 'x.lutra.safetensors');
  assert.is(await find('a.gguf', 'b.gguf'), 'BAD_ARGUMENT');
  assert.is(await find('pytorch_model.bin'), 'DOWNLOAD');
});

test.run();

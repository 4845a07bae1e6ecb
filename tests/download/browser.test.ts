// serial
// Downloads on pages: cut and resumed, refused, kept in the page's own files.
import { readFileSync, rmSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runtime } from '../../build/runtimes.mjs';
import { loadModel } from '../../src/index.js';
import { lutra } from '../cli/lutra.js';
import { hfConfig, hfFolder, llamaTensors } from '../formats/hf-folder.js';
import type { BrowserName } from '../helpers/browser.js';
import { runOnPage } from '../helpers/elsewhere.js';
import { startHub, type Hub } from '../helpers/hub.js';
import { skip } from '../helpers/skip.js';

const test = suite('downloads in browsers');
const config = { ...hfConfig, head_dim: 16, eos_token_id: [39] }, source = hfFolder(config, llamaTensors(config)), packed = `${source.path}/tiny.lutra.safetensors`;
let hub: Hub, bytes: Uint8Array, expected: number[];

test.before(async () => {
  assert.is((await lutra(['quantize', source.path, '-o', packed, '--bits', '4', '--group', '32'])).code, 0);
  bytes = readFileSync(packed);
  const model = await loadModel(packed, { threads: 1 });
  expected = (await model.generate('ABC', { temperature: 0, maxTokens: 8 }).result).ids;
  await model.dispose();
  const names = ['kept', 'wrong', ...Array.from({ length: 10 }, (_, tenth) => `cut${tenth}`), 'ended'];
  hub = await startHub('org/tiny', Object.fromEntries(names.map(name => [`${name}.lutra.safetensors`, bytes])));
});
test.after(async () => {
  await hub.close();
  source.remove();
  rmSync(packed, { force: true });
});

/** Pages say with a request what the next ones are to meet: how many bytes a connection lasts, a checksum. */
const faultsOnDemand: Hub['faults']['handle'] = (request, response) => {
  const { pathname, searchParams } = new URL(request.url!, 'http://hub');
  if (pathname !== '/faults') return false;
  hub.faults = { handle: faultsOnDemand, ...JSON.parse(searchParams.get('are')!) };
  response.writeHead(204, { 'access-control-allow-origin': '*' }).end();
  return true;
};

interface Args { base: string; endpoint: string; size: number }
const rangesOf = (name: string) => hub.requests.filter(({ host, path, range }) => host === 'store' && path === `/${name}.lutra.safetensors` && range !== 'bytes=0-0')
  .flatMap(({ range, sent }) => /^bytes=\d+-\d/.test(range ?? '') ? [] : [{ begin: Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0), sent }]);

for (const browser of ['chromium', 'firefox'] as BrowserName[]) {
  const found = await runtime(browser);
  const names = ['cut at every tenth, resumed and verified', 'a wrong checksum is refused, and nothing of it is kept', 'what was aborted is resumed by the next worker', 'kept: found again without the server'].map(name => `${browser}: ${name}`);
  if ('missing' in found) {
    for (const name of names) skip(test, name, found.missing);
    continue;
  }
  const args = (): Args => ({ base: `${hub.endpoint}/org/tiny/resolve/main`, endpoint: hub.endpoint, size: bytes.length });
  const forget = () => { hub.requests.length = 0; hub.faults = { handle: faultsOnDemand }; };

  test(names[0]!, async () => {
    forget();
    const answers = await runOnPage(browser, async (lutra, { base, endpoint, size }: Args) => {
      const answers = [];
      for (let tenth = 0; tenth < 10; tenth++) {
        await fetch(`${endpoint}/faults?are=${JSON.stringify({ cuts: [Math.floor(size * tenth / 10)] })}`);
        const model = await lutra.loadModel(`${base}/cut${tenth}.lutra.safetensors`, { threads: 1 });
        answers.push((await model.generate('ABC', { temperature: 0, maxTokens: 8 }).result).ids);
        await model.dispose();
      }
      return answers;
    }, args());
    assert.equal(answers, Array(10).fill(expected));
    for (let tenth = 0; tenth < 10; tenth++) {
      const cut = Math.floor(bytes.length * tenth / 10), [first, second, ...others] = rangesOf(`cut${tenth}`);
      assert.equal([first, others], [{ begin: 0, sent: cut }, []]);
      // What was on the way when the connection broke may be lost.
      assert.ok(second!.begin <= cut && second!.begin + second!.sent === bytes.length, `${tenth}: ${JSON.stringify(second)}`);
    }
    assert.ok(rangesOf('cut9')[1]!.begin > 0, 'resumed, not begun anew');
  });

  test(names[1]!, async () => {
    forget();
    const { error, left, answer } = await runOnPage(browser, async (lutra, { base, endpoint }: Args) => {
      const left: string[] = [], walk = async (folder: any): Promise<void> => {
        for await (const [name, handle] of folder.entries()) {
          if (handle.kind === 'directory') await walk(handle);
          else left.push(name);
        }
      };
      const load = () => lutra.loadModel(`${base}/wrong.lutra.safetensors`, { threads: 1 });
      await fetch(`${endpoint}/faults?are=${JSON.stringify({ sha256: '0'.repeat(64) })}`);
      const error = await load().then(() => 'loaded', error => `${error.code} ${error.message}`);
      await walk(await navigator.storage.getDirectory());
      await fetch(`${endpoint}/faults?are={}`);
      const model = await load(), answer = (await model.generate('ABC', { temperature: 0, maxTokens: 8 }).result).ids;
      await model.dispose();
      return { error, left, answer };
    }, args());
    assert.match(error, /^DOWNLOAD .*SHA-256/);
    assert.equal(left.filter(name => name.startsWith('wrong')), []);
    assert.ok(left.includes('probe'), 'there is a folder of its own');
    assert.equal(answer, expected);
  });

  test(names[2]!, async () => {
    forget();
    const { error, answer } = await runOnPage(browser, async (lutra, { base, endpoint, size }: Args) => {
      // The rest of the first connection never comes.
      await fetch(`${endpoint}/faults?are=${JSON.stringify({ cuts: [size >> 1, 0, 0, 0] })}`);
      const location = `${base}/ended.lutra.safetensors`, stopper = new AbortController();
      const onProgress = ({ phase, loaded }: { phase: string; loaded: number }) => { if (phase === 'download' && loaded > 0) stopper.abort(new Error('enough')); };
      const error = await lutra.loadModel(location, { threads: 1, signal: stopper.signal, onProgress }).then(() => 'loaded', error => error.message);
      await fetch(`${endpoint}/faults?are={}`);
      const model = await lutra.loadModel(location, { threads: 1 }), answer = (await model.generate('ABC', { temperature: 0, maxTokens: 8 }).result).ids;
      await model.dispose();
      return { error, answer };
    }, args());
    assert.is(error, 'enough');
    assert.equal(answer, expected);
    const last = rangesOf('ended').at(-1)!;
    assert.ok(last.begin > 0 && last.begin + last.sent === bytes.length, JSON.stringify(last));
  });

  test(names[3]!, async () => {
    forget();
    const { answers, phases } = await runOnPage(browser, async (lutra, { base, endpoint }: Args) => {
      const answers = [], phases = [];
      for (const source of [`${base}/kept.lutra.safetensors`, `${base}/kept.lutra.safetensors`, new File([await (await fetch('/model')).arrayBuffer()], 'tiny')]) {
        const seen = new Set<string>(), model = await lutra.loadModel(source, { threads: 1, onProgress: ({ phase }) => seen.add(phase) });
        answers.push((await model.generate('ABC', { temperature: 0, maxTokens: 8 }).result).ids);
        phases.push([...seen]);
        await model.dispose();
        await fetch(`${endpoint}/faults?are={}`);
      }
      return { answers, phases };
    }, args(), { files: { '/model': packed } });
    assert.equal(answers, [expected, expected, expected]);
    assert.equal(phases, [['download', 'load'], ['load'], ['load']]);
    const marks = hub.requests.map(({ path }) => path), first = marks.indexOf('/faults');
    assert.equal(marks.slice(first), ['/faults', '/faults', '/faults']);
  });
}

test.run();

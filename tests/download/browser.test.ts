// serial
import { readFileSync, rmSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runtime } from '../../build/runtimes.mjs';
import { loadModel } from '../../src/index.js';
import { lutra } from '../cli/lutra.js';
import { hfConfig, hfFolder, llamaTensors } from '../formats/hf-folder.js';
import { openPage } from '../helpers/browser.js';
import { startHub } from '../helpers/hub.js';
import { startServer } from '../../build/serve.mjs';
import { skip } from '../helpers/skip.js';

const test = suite('downloads in a browser');
const found = await runtime('chromium');

/** Loads the model twice, cuts and all, and tells what it said. */
const page = (url: string) => `<!doctype html><script type="module">
  const report = body => fetch('/report', { method: 'POST', body: JSON.stringify(body) });
  try {
    const { loadModel } = await import('/dist/index.js');
    const answers = [], phases = [];
    for (let i = 0; i < 2; i++) {
      const seen = new Set();
      const model = await loadModel(${JSON.stringify(url)}, { threads: 1, onProgress: ({ phase }) => seen.add(phase) });
      answers.push((await model.generate('ABC', { temperature: 0, maxTokens: 8 }).result).ids);
      phases.push([...seen]);
      await model.dispose();
      if (i === 0) await fetch(${JSON.stringify(new URL(url).origin)} + '/first-done', { mode: 'no-cors' });
    }
    const file = await loadModel(new File([await (await fetch('/model')).arrayBuffer()], 'tiny'), { threads: 1 });
    answers.push((await file.generate('ABC', { temperature: 0, maxTokens: 8 }).result).ids);
    await report({ answers, phases });
  } catch (error) {
    await report({ error: String(error) + ' ' + error.code + ' ' + error.stack });
  }
</script>`;

if ('missing' in found) skip(test, 'OPFS in Chromium', found.missing);
else {
  test('OPFS in Chromium: resumed, kept, found again without the server', async () => {
    const config = { ...hfConfig, head_dim: 16, eos_token_id: [39] }, source = hfFolder(config, llamaTensors(config)), packed = `${source.path}/tiny.lutra.safetensors`;
    assert.is((await lutra(['quantize', source.path, '-o', packed, '--bits', '4', '--group', '32'])).code, 0);
    const model = await loadModel(packed, { threads: 1 });
    const expected = (await model.generate('ABC', { temperature: 0, maxTokens: 8 }).result).ids;
    await model.dispose();
    const bytes = readFileSync(packed);
    const hub = await startHub('org/tiny', { 'tiny.lutra.safetensors': bytes });
    hub.faults = { cuts: [bytes.length / 3 | 0, bytes.length / 3 | 0] };
    let report!: (value: any) => void;
    const reported = new Promise<any>(resolve => { report = resolve; });
    const server = await startServer({ pages: { '/': page(`${hub.endpoint}/org/tiny/resolve/main/tiny.lutra.safetensors`) }, files: { '/model': packed }, onReport: report });
    const browser = await openPage('chromium', server.origin);
    const timer = setTimeout(() => report({ error: `nothing was reported: ${browser.log()}` }), 120_000);
    const { error, answers, phases } = await reported;
    clearTimeout(timer);
    const after = hub.requests.slice(hub.requests.findIndex(request => request.path === '/first-done') + 1);
    for (const one of [browser, server, hub]) await one.close();
    source.remove();
    rmSync(packed, { force: true });
    assert.is(error, undefined);
    assert.equal(answers, [expected, expected, expected]);
    assert.equal(phases, [['download', 'load'], ['load']]);
    assert.equal(after, []);
  });
}

test.run();

// serial
// Chromium gives the memory of a model back, whenever it was ended.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runtime } from '../../build/runtimes.mjs';
import { runOnPage } from '../helpers/elsewhere.js';
import { skip } from '../helpers/skip.js';
import { hubWith } from '../runtime/ended.js';

const test = suite('memory on pages');
const found = await runtime('chromium'), name = 'chromium: memory after aborts while loading, reading and writing, and after dispose';

if ('missing' in found) skip(test, name, found.missing);
else test(name, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lutra-')), hub = await hubWith(folder);
  try {
    const { all, marks } = await runOnPage('chromium', async (lutra, location: string) => {
      const all: string[] = [], marks: number[] = [];
      for (let round = 0; round < 5; round++) {
        for (const stage of ['load', 'prefill', 'decode', 'disposed']) {
          const stopper = new AbortController(), { signal } = stopper, end = () => stopper.abort(new Error(stage));
          const run = async () => {
            const model = await lutra.loadModel(location, { threads: 2, context: 2048, ...(stage === 'load' && { signal, onProgress: ({ phase, loaded, total }) => { if (phase === 'load' && loaded > 0 && loaded < total) end(); } }) });
            const ids = Array.from({ length: stage === 'prefill' ? 1500 : 4 }, (_, i) => 3 + i % 500), answer = model.generate(ids, { signal, temperature: 0, maxTokens: stage === 'disposed' ? 5 : 500 });
            if (stage === 'prefill') setTimeout(end, 60);
            let tokens = 0;
            const why = await (async () => { for await (const _ of answer) if (stage === 'decode' && ++tokens === 3) end(); })().then(() => stage, error => error.message);
            await model.dispose();
            return why;
          };
          all.push(await run().catch(error => error.message) === stage ? '' : stage);
        }
        await new Promise(resolve => setTimeout(resolve, 3000)); // what ends a worker, and counts memory, takes its time
        marks.push(Number(await (await fetch('/memory')).text()));
      }
      return { all, marks };
    }, `${hub.endpoint}/org/repo/resolve/main/big.lutra.safetensors`, { isolated: true, memory: true, limit: 200_000 });
    assert.equal(all.filter(Boolean), []);
    // A model that stays takes 55 MB; there were 20.
    console.log(`MB after each round: ${marks.map(bytes => Math.round(bytes / 1e6)).join(', ')}`);
    assert.ok(marks.at(-1)! - marks[0]! < 45e6, `MB after each round: ${marks.map(bytes => Math.round(bytes / 1e6)).join(', ')}`);
  } finally {
    await hub.close();
    rmSync(folder, { recursive: true });
  }
});

test.run();

/** A model whose crew has private memories, as a caller sees it: in a process where threads can share nothing. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { join } from 'node:path';
import { repoRoot } from '../helpers/paths.js';
import { runtime } from '../../build/runtimes.mjs';
import { runOnServer, withoutSharing } from '../helpers/elsewhere.js';
import { skip } from '../helpers/skip.js';

const test = suite('private crew, through the library');
const model = join(repoRoot, 'models', 'stories.lutra.safetensors');

test('the same answers with 1, 2 and 4 workers; sessions, scores, chunks of a long prompt', async () => {
  const results = await runOnServer([process.execPath], async (lutra, path) => {
    const results = [];
    for (const threads of [1, 2, 4]) {
      const model = await lutra.loadModel(path, { threads, maxSessions: 2, context: 256 });
      const { crew, crewReason, wasm } = model.info();
      const greedy = await model.generate('Once upon a time', { temperature: 0, maxTokens: 40, hashLogits: true }).result;
      const session = await model.createSession();
      const seeded = await session.generate('One day, a girl named Lily '.repeat(12), { seed: 7, temperature: 0.9, topP: 0.9, maxTokens: 20, hashLogits: true }).result;
      const { logProbabilities } = await model.score(greedy.ids.slice(0, 30));
      results.push({ crew, crewReason, wasm, answers: [greedy.text, greedy.logitsHash, seeded.text, seeded.logitsHash, ...logProbabilities] });
      await model.dispose();
    }
    return results;
  }, model, { env: withoutSharing });
  assert.equal(results.map(({ crew }) => crew), ['single', 'private', 'private']);
  for (const { answers, crewReason, wasm } of results.slice(1)) {
    assert.equal(answers, results[0]!.answers);
    assert.match(crewReason, 'no SharedArrayBuffer');
    assert.not.match(wasm, 'shared');
  }
});

test('abort during prompt and answer, disposal in the middle: typed, nothing after, the model goes on or all threads end', async () => {
  const report = await runOnServer([process.execPath], async (lutra, path) => {
    const model = await lutra.loadModel(path, { threads: 2, context: 512 }), prompt = 'One day, a girl named Lily '.repeat(30);
    const text = async () => (await model.generate('Once upon a time', { temperature: 0, maxTokens: 20 }).result).text;
    const before = await text(), reasons: unknown[] = [];
    for (const delay of [0, 3, 10, 30]) {
      const controller = new AbortController(), answer = model.generate(prompt, { maxTokens: 200, signal: controller.signal });
      setTimeout(() => controller.abort('enough'), delay);
      reasons.push(await answer.result.then(({ finishReason }) => finishReason, error => error));
    }
    const after = await text(), under = model.generate(prompt, { maxTokens: 200 }).result.then(() => 'done', error => error.code);
    await model.dispose();
    return { same: before === after, reasons, under: await under, later: await text().catch(error => error.code), handles: process.getActiveResourcesInfo().filter(name => name === 'MessagePort' || name === 'Worker') };
  }, model, { env: withoutSharing });
  assert.ok(report.same);
  assert.ok(report.reasons.every(reason => reason === 'enough' || reason === 'aborted'), JSON.stringify(report.reasons));
  assert.equal([report.under, report.later, report.handles], ['DISPOSED', 'DISPOSED', []]);
});

for (const name of ['node-20', 'deno', 'bun']) {
  const found = await runtime(name), title = `${name}: an abort, then the same answer with 1, 2 and 3 workers`;
  if ('missing' in found) {
    skip(test, title, found.missing);
    continue;
  }
  test(title, async () => {
    const [one, ...more] = await runOnServer(found.command, async (lutra, path) => {
      const seen = [];
      for (const threads of [1, 2, 3]) {
        const model = await lutra.loadModel(path, { crew: 'private', threads, context: 256 }), controller = new AbortController();
        const ended = model.generate('One day, a girl named Lily '.repeat(20), { signal: controller.signal }).result.catch(error => error);
        setTimeout(() => controller.abort('enough'), 10);
        await ended;
        seen.push((await model.generate('Once upon a time', { temperature: 0, maxTokens: 30, hashLogits: true }).result).logitsHash);
        await model.dispose();
      }
      return seen;
    }, model);
    assert.equal(more, [one, one]);
  });
}

test.run();

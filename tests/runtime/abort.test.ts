import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { fakeModel } from './fake-engine.js';

const test = suite('abort');

test('a signal that is aborted already rejects before any work', async () => {
  const { model, log } = await fakeModel();
  const reason = new Error('no');
  const run = model.generate('Hello', { signal: AbortSignal.abort(reason) });
  assert.is(await run.result.catch(error => error), reason);
  assert.is(await run[Symbol.asyncIterator]().next().catch(error => error), reason);
  assert.is(await model.score([1, 2], { signal: AbortSignal.abort(reason) }).catch(error => error), reason);
  assert.is(log.rows.length, 0);
});

test('abort takes effect within 50 ms, in the prompt and between tokens', async () => {
  for (const [prompt, rowMs] of [[Array(200).fill(260), 5], [[1, 260], 5], [[1, 260], 0]] as const) {
    const { model } = await fakeModel({ rowMs, config: { contextLength: 1e6 } }, { context: 1e6 });
    const controller = new AbortController();
    const reason = new Error('enough');
    const run = model.generate(prompt, { temperature: 0, signal: controller.signal });
    let aborted = 0;
    setTimeout(() => { aborted = performance.now(); controller.abort(reason); }, 60);
    assert.is(await run.result.catch(error => error), reason);
    assert.ok(performance.now() - aborted < 50, `${performance.now() - aborted} ms`);
    // The session is sound: the same prompt again, to its end.
    assert.is((await model.generate([1, 260], { temperature: 0, maxTokens: 3 }).result).completionTokens, 3);
  }
});

test('iteration throws the reason', async () => {
  const { model } = await fakeModel({ rowMs: 1 });
  const controller = new AbortController();
  const seen: string[] = [];
  try {
    for await (const { text } of model.generate('Hello', { signal: controller.signal })) {
      seen.push(text);
      if (seen.length === 3) controller.abort('because');
    }
    assert.unreachable();
  } catch (error) {
    assert.is(error, 'because');
  }
  assert.is(seen.length, 3);
});

test('leaving the loop cancels; the result is what there was', async () => {
  const { model, log } = await fakeModel({ rowMs: 1 });
  const run = model.generate('Hello', { temperature: 0 });
  let seen = 0;
  for await (const _ of run) if (++seen === 3) break;
  const rows = log.rows.length;
  const result = await run.result;
  assert.is(result.finishReason, 'aborted');
  assert.ok(result.completionTokens >= 3 && result.completionTokens < 100);
  await new Promise(resolve => setTimeout(resolve, 30));
  assert.is(log.rows.length, rows);
});

test('cancel() from outside', async () => {
  const { model } = await fakeModel({ rowMs: 1 });
  const run = model.generate('Hello', { temperature: 0 });
  setTimeout(() => run.cancel(), 30);
  const { finishReason, completionTokens } = await run.result;
  assert.is(finishReason, 'aborted');
  assert.ok(completionTokens > 0);
});

test.run();

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { fakeModel, wordId } from './fake-engine.js';

const test = suite('sessions');
const short = { temperature: 0, maxTokens: 3 } as const;

test('the common prefix is not computed again', async () => {
  const { model, log } = await fakeModel();
  const session = await model.createSession();
  const first = await session.generate([1, 260, 261, 262, 263], short).result;
  assert.is(first.cachedTokens, 0);
  log.rows.length = 0;
  // Prompt and answer so far, and two tokens more; the last token of the answer was drawn but never computed.
  const second = await session.generate([...first.promptIds, ...first.ids, 264, 265], short).result;
  assert.is(second.cachedTokens, 7);
  assert.is(log.rows[0]!.position, 7);
  const forked = await session.generate([1, 260, 261, 300 % 270, 1], short).result;
  assert.is(forked.cachedTokens, 3);
});

test('the same prompt again computes its last token only, and says the same', async () => {
  const { model, log } = await fakeModel();
  const one = await model.generate([1, 260, 261, 262], short).result;
  log.rows.length = 0;
  const two = await model.generate([1, 260, 261, 262], short).result;
  assert.is(two.cachedTokens, 3);
  assert.is(log.rows[0]!.position, 3);
  assert.equal(one.ids, two.ids);
});

test('append, truncate, continue', async () => {
  const { model } = await fakeModel();
  const session = await model.createSession();
  assert.is(await session.append('Hello'), 2);
  assert.is(await session.append('Hello'), 3);
  assert.equal(await session.ids(), [1, wordId('▁Hello'), wordId('▁Hello')]);
  const { ids, cachedTokens } = await session.generate(null, short).result;
  assert.is(cachedTokens, 2);
  assert.equal(await session.ids(), [1, wordId('▁Hello'), wordId('▁Hello'), ...ids]);
  assert.is(await session.truncate(3), 3);
  assert.equal((await session.generate(null, short).result).ids, ids);
  assert.equal((await model.generate([1, wordId('▁Hello'), wordId('▁Hello')], short).result).ids, ids);
});

test('an append that does not fit leaves the session as it was', async () => {
  const { model } = await fakeModel({}, { context: 8 });
  const session = await model.createSession();
  await session.append([1, 260, 261]);
  const error = await session.append(Array(6).fill(262)).catch(error => error);
  assert.is(error.code, 'CONTEXT_FULL');
  assert.equal(await session.ids(), [1, 260, 261]);
});

test('sessions do not touch each other, even at the same time', async () => {
  const { model } = await fakeModel({}, { maxSessions: 2 });
  const alone = await model.generate([1, 260], { temperature: 0, maxTokens: 40 }).result;
  const [a, b] = [await model.createSession(), await model.createSession()];
  const both = await Promise.all([a, b].map((session, i) => session.generate([1, 260 + i], { temperature: 0, maxTokens: 40 }).result));
  assert.equal(both[0]!.ids, alone.ids);
  assert.not.equal(both[1]!.ids, alone.ids);
});

test('there are maxSessions, a disposed one makes room and refuses use', async () => {
  const { model, log } = await fakeModel();
  assert.is(log.options!.maxSessions, 2);
  const session = await model.createSession();
  assert.is((await model.createSession().catch(error => error)).argument, 'maxSessions');
  await session.dispose();
  await session.dispose();
  assert.is((await session.generate('Hello').result.catch(error => error)).code, 'DISPOSED');
  await model.createSession();
  assert.is(log.open, 2);
});

test('score: log-probabilities and logits', async () => {
  const { model, log } = await fakeModel();
  const { promptIds, ids } = await model.generate([1, 260], { temperature: 0, maxTokens: 8 }).result;
  const all = [...promptIds, ...ids];
  log.rows.length = 0;
  const { logProbabilities, logits } = await model.score(all, { from: 1, logits: true });
  assert.equal([...logProbabilities], Array(8).fill(-0.5));
  assert.is(logits!.length, 9);
  assert.is(log.rows[0]!.position, 1);
  assert.is((await model.score(all)).logProbabilities.length, 9);
  assert.is((await model.score([1])).logProbabilities.length, 0);
  for (const [bad, options] of [[[], {}], [[1, -1], {}], [[1, 2], { from: 2 }]] as const) {
    assert.is((await model.score(bad, options).catch(error => error)).code, 'BAD_ARGUMENT');
  }
  assert.is((await model.score(Array(257).fill(1)).catch(error => error)).code, 'CONTEXT_FULL');
});

test.run();

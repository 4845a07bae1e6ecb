import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Piece } from '../../src/index.js';
import { byteId, fakeModel, saying, wordId } from './fake-engine.js';

const test = suite('generate');
const greedy = { temperature: 0 } as const;

async function collect(run: AsyncIterable<Piece>): Promise<Piece[]> {
  const pieces: Piece[] = [];
  for await (const piece of run) pieces.push(piece);
  return pieces;
}

test('pieces add up to the result', async () => {
  const { model } = await fakeModel();
  const run = model.generate('Hello', { ...greedy, maxTokens: 20, hashLogits: true });
  const pieces = await collect(run);
  const result = await run.result;
  assert.is(pieces.map(piece => piece.text).join(''), result.text);
  assert.equal(pieces.flatMap(piece => piece.ids), result.ids);
  assert.equal(result.promptIds, [1, wordId('▁Hello')]);
  assert.is(result.promptTokens, 2);
  assert.is(result.completionTokens, 20);
  assert.is(result.finishReason, 'length');
  assert.match(result.logitsHash!, /^[0-9a-f]{16}$/);
  await model.dispose();
});

test('the first piece after BOS loses its leading space, later ones keep theirs', async () => {
  const words = [wordId('▁Hello'), wordId('▁world')];
  const { model } = await fakeModel({ next: ids => saying(ids[1] === wordId('▁Hello') && ids.length < 2 ? 2 : 1, words)(ids) });
  assert.is((await model.generate('', greedy).result).text, 'Hello world');
  const after = await fakeModel({ next: saying(2, words) });
  assert.is((await after.model.generate('Hello', greedy).result).text, ' Hello world');
});

test('a character of several byte tokens is one piece', async () => {
  const smile = [...new TextEncoder().encode('😀')].map(byteId);
  const { model } = await fakeModel({ next: saying(2, [wordId('o'), ...smile, wordId('l'), byteId(0xe2), byteId(0x82)]) });
  const pieces = await collect(model.generate('Hello', greedy));
  assert.equal(pieces.map(piece => piece.text), ['o', '😀', 'l', '\ufffd']);
  assert.equal(pieces[1]!.ids, smile);
  assert.equal(pieces[3]!.ids, [byteId(0xe2), byteId(0x82)]);
});

test('stop strings end the answer and never leak, across pieces too', async () => {
  const next = saying(2, [wordId('He'), wordId('l'), wordId('lo'), wordId('END'), wordId('o')]);
  const { model } = await fakeModel({ next });
  const run = model.generate('Hello', { ...greedy, stop: ['lloE', 'never'] });
  const pieces = await collect(run);
  const result = await run.result;
  assert.is(result.text, 'He');
  assert.is(result.finishReason, 'stop');
  assert.is(pieces.map(piece => piece.text).join(''), 'He');
  assert.equal(result.ids, [wordId('He'), wordId('l'), wordId('lo'), wordId('END')]);
  assert.equal(pieces.flatMap(piece => piece.ids), result.ids);
});

test('what looked like a stop string and was none comes out', async () => {
  const { model } = await fakeModel({ next: saying(2, [wordId('He'), wordId('l'), wordId('l')]) });
  const result = await model.generate('Hello', { ...greedy, stop: ['Hello'] }).result;
  assert.is(result.text, 'Hell');
  assert.is(result.finishReason, 'stop');
});

test('same seed, same answer; the random seed is reported', async () => {
  const { model } = await fakeModel();
  const one = await model.generate('Hello', { maxTokens: 8 }).result;
  const two = await model.generate('Hello', { maxTokens: 8, seed: one.seed }).result;
  assert.equal(one.ids, two.ids);
  const other = await model.generate('Hello', { maxTokens: 8, seed: one.seed + 1n }).result;
  assert.not.equal(one.ids, other.ids);
});

test('the prompt is computed in blocks and only its last row has logits', async () => {
  const { model, log } = await fakeModel();
  await model.generate([1, 259, 260, 261, 262, 263], { ...greedy, maxTokens: 2 }).result;
  assert.equal(log.rows.map(row => row.position), [0, 1, 2, 3, 4, 5, 6]);
  assert.equal(log.rows.map(row => row.wantLogits), [false, false, false, false, false, true, true]);
});

test('the context bounds prompt and answer', async () => {
  const { model } = await fakeModel({}, { context: 10 });
  const result = await model.generate([1, 260], greedy).result;
  assert.is(result.finishReason, 'length');
  assert.is(result.promptTokens + result.completionTokens, 10);
  const error = await model.generate(Array(10).fill(260), greedy).result.then(() => null, error => error);
  assert.is(error.code, 'CONTEXT_FULL');
  assert.equal([error.used, error.limit], [11, 10]);
});

test('options out of range are typed errors, for the result and for the loop', async () => {
  const { model } = await fakeModel();
  for (const [argument, options] of Object.entries({
    temperature: { temperature: -1 }, topK: { topK: 1.5 }, topP: { topP: 2 }, minP: { minP: NaN }, repetitionPenalty: { repetitionPenalty: 0 },
    maxTokens: { maxTokens: 0 }, seed: { seed: -1 }, stop: { stop: [''] }, 'prompt[1]': {},
  })) {
    const run = model.generate(argument === 'prompt[1]' ? [1, 99999] : 'Hello', options);
    const error = await run.result.then(() => null, error => error);
    assert.is(error?.code, 'BAD_ARGUMENT', argument);
    assert.is(error.argument, argument);
    assert.is(await collect(run).then(() => null, error => error.code), 'BAD_ARGUMENT');
  }
  for (const call of [() => model.generate(undefined as never).result, () => model.score('text' as never), () => model.tokenize(7 as never)]) {
    assert.is(await call().then(() => null, (error: any) => error.code), 'BAD_ARGUMENT');
  }
});

test('an engine that nobody listens to waits; asking for the result lets it run', async () => {
  const { model, log } = await fakeModel();
  const run = model.generate('Hello', { ...greedy, maxTokens: 200 });
  await new Promise(resolve => setTimeout(resolve, 100));
  assert.ok(log.rows.length > 50 && log.rows.length < 80, `${log.rows.length} rows`);
  const { completionTokens } = await run.result;
  assert.is(completionTokens, 200);
  assert.is((await collect(run)).length, 200);
});

test.run();

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BadArgumentError, ContextFullError, DisposedError, EngineCrashError, LutraError } from '../../src/errors.js';
import { fromWire, toWire } from '../../src/runtime/wire-error.js';
import { config, fakeModel, tokenizerJson } from './fake-engine.js';

const test = suite('lifetime and errors');

test('dispose rejects what is under way and everything after it', async () => {
  const { model } = await fakeModel({ rowMs: 2 });
  const run = model.generate('Hello', { temperature: 0 });
  await new Promise(resolve => setTimeout(resolve, 20));
  await model.dispose();
  await model.dispose();
  assert.instance(await run.result.catch(error => error), DisposedError);
  for (const call of [() => model.tokenize('x'), () => model.score([1]), () => model.createSession(), () => model.generate('x').result]) {
    assert.instance(await call().catch((error: unknown) => error), DisposedError);
  }
});

test('await using', async () => {
  let kept;
  {
    await using model = (await fakeModel()).model;
    await using session = await model.createSession();
    assert.is(await session.append('Hello'), 2);
    kept = model;
  }
  assert.instance(await kept.tokenize('x').catch(error => error), DisposedError);
});

test('a worker that dies rejects everything pending', async () => {
  const { model, crash } = await fakeModel({ rowMs: 2 });
  const run = model.generate('Hello', { temperature: 0 });
  setTimeout(crash, 20);
  const error = await run.result.catch(error => error);
  assert.instance(error, EngineCrashError);
  assert.match(error.message, /gone/);
  assert.instance(await model.tokenize('x').catch(error => error), EngineCrashError);
});

test('an engine that throws is a crash with its cause', async () => {
  const { model } = await fakeModel({ next: () => { throw new RangeError('trap'); } });
  const error = await model.generate('Hello', { temperature: 0 }).result.catch(error => error);
  assert.instance(error, EngineCrashError);
  assert.is(error.operation, 'generate');
  assert.match(error.message, /trap/);
  assert.is(error.cause.message, 'trap');
});

test('errors keep class, code, hint and fields across the border', () => {
  const error = fromWire(structuredClone(toWire(new ContextFullError(11, 10), 'generate'))) as ContextFullError;
  assert.instance(error, ContextFullError);
  assert.instance(error, LutraError);
  assert.equal([error.code, error.used, error.limit, error.name], ['CONTEXT_FULL', 11, 10, 'ContextFullError']);
  assert.match(error.hint, /larger `context`/);
  assert.match(error.message, /11 tokens/);
});

test('load options are checked', async () => {
  for (const [argument, options] of Object.entries({ context: { context: 257 }, threads: { threads: 0 }, maxSessions: { maxSessions: 0 } })) {
    const error = await fakeModel({}, options).catch(error => error);
    assert.instance(error, BadArgumentError);
    assert.is(error.argument, argument);
  }
});

test('a tokenizer of another size is refused with file and remedy', async () => {
  for (const vocabSize of [config.vocabSize - 1, config.vocabSize * 2]) {
    const error = await fakeModel({ config: { vocabSize } }).catch(error => error);
    assert.is(error.code, 'BAD_MODEL_FILE');
    assert.equal([error.path, error.field], ['fake.safetensors', 'tokenizer']);
    assert.match(error.hint, /tokenizer that belongs/);
  }
  const broken = await fakeModel({ tokenizer: { ...tokenizerJson, model: { type: 'Nonsense' } } }).catch(error => error);
  assert.is(broken.code, 'BAD_MODEL_FILE');
});

test('progress is reported and reaches its end', async () => {
  const seen: string[] = [];
  await fakeModel({}, { onProgress: ({ phase, loaded, total }) => seen.push(`${phase} ${loaded}/${total}`) });
  assert.is(seen.at(-1), 'pack 2/2');
});

test('info', async () => {
  const { model } = await fakeModel();
  const info = model.info();
  assert.is(info.context, 256);
  assert.is(info.config.vocabSize, config.vocabSize);
  assert.equal(info.kernels, { fake: 1 });
  assert.ok(info.loadSeconds >= 0);
});

test.run();

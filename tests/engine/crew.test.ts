import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { chooseCrew } from '../../src/engine/crew.js';
import { createEngine } from '../../src/engine/engine.js';
import { fastest } from '../../src/engine/threads.js';
import { BadArgumentError, EngineCrashError, EnvironmentError } from '../../src/errors.js';
import { useAssets } from '../../src/platform/assets.js';
import { beside } from '../../src/platform/beside.js';
import { defaults, outcome } from './matrix.js';
import { randomModel } from './models.js';

const test = suite('the choice of a crew');
const { source, header } = randomModel('crew', { layout: 'planes', planes: 2, groupSize: 64, coding: 'i16' });

test('shared where memory can be shared, private elsewhere, single with one core, with the reason', () => {
  assert.match(chooseCrew({ threads: 'auto' }, 4, undefined).reason, 'up to 4');
  assert.equal([chooseCrew({ threads: 2 }, 4, undefined).crew, chooseCrew({ threads: 'auto' }, 16, undefined).threads], ['shared', 8]);
  assert.equal(chooseCrew({ threads: 4 }, 4, 'no headers'), { crew: 'private', threads: 4, reason: 'no headers; workers with memories of their own: 4 were asked for' });
  assert.match(chooseCrew({ threads: 'auto' }, 2, 'no headers').reason, 'up to 2 of them, the fastest number');
  assert.equal(chooseCrew({ threads: 1 }, 4, 'no headers'), { crew: 'single', threads: 1, reason: 'one thread was asked for' });
  assert.equal([chooseCrew({ crew: 'private', threads: 'auto' }, 1, undefined).crew, chooseCrew({ crew: 'private', threads: 'auto' }, 1, undefined).threads], ['private', 2]);
  assert.equal(chooseCrew({ threads: 'auto' }, 1, undefined), { crew: 'single', threads: 1, reason: 'there is one core' });
  assert.equal(chooseCrew({ crew: 'single', threads: 4 }, 4, undefined), { crew: 'single', threads: 1, reason: 'asked for' });
  assert.is(chooseCrew({ crew: 'shared', threads: 1 }, 4, undefined).crew, 'shared');
});

test('a thread more must be worth what waking it takes', () => {
  const timings: Record<number, number>[] = [{ 1: 2e-3, 2: 1.2e-3 }, { 1: 2e-3, 2: 1.95e-3 }, { 1: 2e-4, 2: 1.6e-4 }, { 1: 2e-3, 2: 1.2e-3, 3: 0.9e-3, 4: 0.88e-3 }];
  assert.equal(timings.map(seconds => fastest(seconds)), [2, 1, 1, 3]);
  assert.is(fastest({ 1: 2e-3, 2: 1.85e-3 }, 0.9), 1);
});

test('what cannot be had is refused', () => {
  assert.throws(() => chooseCrew({ crew: 'shared', threads: 2 }, 4, 'no headers'), (error: Error) => error instanceof EnvironmentError && /no headers/.test(error.message));
  for (const threads of [0, 1.5, 1e6]) assert.throws(() => chooseCrew({ threads }, 4, undefined), (error: Error) => error instanceof BadArgumentError);
});

/** Workers that do something else than ours. */
async function withWorker<T>(script: string, task: () => Promise<T>): Promise<T> {
  const assets = beside();
  useAssets({ ...assets, 'crew-worker.js': `data:text/javascript,${encodeURIComponent(script)}` });
  try {
    return await task();
  } finally {
    useAssets(assets);
  }
}

for (const [what, script, reason, startDeadline] of [
  ['never say anything', 'setTimeout(() => {}, 60_000)', /not (running|ready) after 0\.3 s/, 300],
  ['fail', 'throw new Error("no luck")', /no luck/, 20_000],
  ['end', '', /exited/, 20_000],
  ['start and then hang', 'import { parentPort } from "node:worker_threads"; parentPort.on("message", () => {}); parentPort.postMessage("lutra: a worker runs")', /not (running|ready) after 1 s/, 1000],
] as const) {
  test(`threads that ${what}: one does the work, and says why`, async () => {
    const engine = await withWorker(script, () => createEngine(source, header, { ...defaults, threads: 3, startDeadline }));
    const { crew, threads, crewReason, wasm } = engine.info;
    assert.equal([crew, threads, wasm], ['single', 1, 'simd']);
    assert.match(crewReason, reason);
    const shared = await createEngine(source, header, { ...defaults, threads: 3 });
    assert.is(shared.info.crew, 'shared');
    assert.is(await outcome(engine), await outcome(shared));
    await engine.dispose();
    await shared.dispose();
  });
}

test('a crew asked for by name that does not start is an error', async () => {
  const error = await withWorker('', () => createEngine(source, header, { ...defaults, crew: 'shared', threads: 2 }).catch(error => error));
  assert.instance(error, EngineCrashError);
});

test.run();

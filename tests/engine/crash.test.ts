/** A thread that dies is an error at once, never a wait without end; afterwards the engine refuses. */
import type { Worker } from 'node:worker_threads';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DisposedError, EngineCrashError } from '../../src/errors.js';
import { createEngine, type LocalEngine } from '../../src/engine/engine.js';
import { startedWorkers } from '../helpers/started-workers.js';
import { defaults, feed, tokens } from './matrix.js';
import { randomModel } from './models.js';

const test = suite('crashes');

const workers = startedWorkers();

const { source, header } = randomModel('crash', { layout: 'planes', planes: 2, groupSize: 64, coding: 'i16' });

async function started(count: number): Promise<{ engine: LocalEngine; session: number; crew: Worker[] }> {
  workers.length = 0;
  const engine = await createEngine(source, header, { ...defaults, threads: count });
  const crew = [...workers], session = engine.openSession();
  assert.is(crew.length, count - 1);
  await feed(engine, session, tokens(5));
  return { engine, session, crew };
}

/** Ends in EngineCrashError soon; then every call does; then all threads end. */
async function assertCrash({ engine, session, crew }: Awaited<ReturnType<typeof started>>, pass: Promise<unknown>): Promise<void> {
  const start = performance.now(), error = await pass.then(() => null, error => error);
  assert.instance(error, EngineCrashError);
  assert.ok(performance.now() - start < 2000, `${performance.now() - start} ms`);
  assert.instance(await feed(engine, session, tokens(1)).catch(error => error), EngineCrashError);
  assert.throws(() => engine.logits(0), (error: Error) => error instanceof EngineCrashError);
  assert.throws(() => engine.openSession(), (error: Error) => error instanceof EngineCrashError);
  const ended = Promise.all(crew.map(worker => worker.threadId < 0 ? null : new Promise(resolve => worker.once('exit', resolve))));
  await engine.dispose();
  await ended;
  assert.instance(await feed(engine, session, tokens(1)).catch(error => error), DisposedError);
}

/** The tiles of the embedding so far apart that all but the first lie outside memory. */
function spoilEmbedding({ memory, plan }: LocalEngine): void {
  const view = new DataView(memory.buffer);
  const part = plan.parts[Object.values(header.linears).slice(0, Object.keys(header.linears).indexOf('embedding')).reduce((n, linear) => n + linear.parts.length, 0)]!;
  view.setUint32(part + 28, 2 ** 26, true); // tileBytes
}

for (const count of [2, 4]) {
  test(`a thread that is ended between two passes; ${count} threads`, async () => {
    const all = await started(count);
    await all.crew.at(-1)!.terminate();
    await assertCrash(all, feed(all.engine, all.session, tokens(5)));
  });

  test(`a trap in rank 1 while the others wait for it; ${count} threads`, async () => {
    const all = await started(count);
    spoilEmbedding(all.engine);
    const rows = [3, 514].map((token, i) => ({ session: all.session, position: i, token, wantLogits: false })); // a row a thread
    await assertCrash(all, all.engine.forward(count === 2 ? rows : [...rows, ...[4, 5].map((token, i) => ({ ...rows[0]!, position: 2 + i, token }))]));
  });
}

for (const count of [1, 2, 4]) {
  test(`a trap in rank 0; ${count} threads`, async () => {
    const all = await started(count);
    spoilEmbedding(all.engine);
    await assertCrash(all, all.engine.forward([{ session: all.session, position: 0, token: 514, wantLogits: false }]));
  });
}

test('a sound engine is not disturbed by what another one suffers', async () => {
  const [broken, sound] = [await started(2), await started(2)];
  await broken.crew[0]!.terminate();
  await assertCrash(broken, feed(broken.engine, broken.session, tokens(5)));
  assert.is(await feed(sound.engine, sound.session, tokens(9)), await feed(sound.engine, sound.session, tokens(9)));
  await sound.engine.dispose();
});

test.run();

/** Members with memories of their own: the same bits as one memory, settled by timing, and a typed error when one dies. */
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DisposedError, EngineCrashError } from '../../src/errors.js';
import { createEngine, type LocalEngine } from '../../src/engine/engine.js';
import { Exchanger } from '../../src/engine/exchange.js';
import { compile } from '../../src/engine/instance.js';
import { Member, type MemberOptions } from '../../src/engine/member.js';
import { runPrivate, type Answer, type Order } from '../../src/engine/private-worker.js';
import { cut } from '../../src/engine/slices.js';
import type { EngineOptions } from '../../src/engine/types.js';
import { readPackedHeader } from '../../src/formats/packed.js';
import { openFile } from '../../src/platform/platform.js';
import { repoRoot } from '../helpers/paths.js';
import { startedWorkers } from '../helpers/started-workers.js';
import { defaults, feed, outcome, tokens } from './matrix.js';
import { everyFormat, randomModel } from './models.js';

const test = suite('private crew');

const workers = startedWorkers();

const crewOf = (threads: number | 'auto'): EngineOptions => ({ ...defaults, crew: 'private', threads });
/** Tokens and logits; keys and values are those of a member's heads alone. */
const answer = async (engine: LocalEngine) => (await outcome(engine)).split(' ').slice(0, -1).join(' ');
const planes = { layout: 'planes', planes: 2, groupSize: 64, coding: 'i16' } as const;
const small = () => randomModel('small', planes, { nHeads: 8, nHeadsKv: 4, headDim: 16 });

async function withEngine<T>({ source, header }: Pick<ReturnType<typeof small>, 'source' | 'header'>, options: EngineOptions, task: (engine: LocalEngine) => Promise<T>): Promise<T> {
  const engine = await createEngine(source, header, options);
  try {
    return await task(engine);
  } finally {
    await engine.dispose();
  }
}

test('every format and architecture: the bits of one memory with 2 members and with 3', async () => {
  for (const model of everyFormat()) {
    const expected = await withEngine(model, { ...defaults, ...model.options }, answer);
    for (const count of [2, 3]) {
      await withEngine(model, { ...crewOf(count), ...model.options }, async engine => {
        const { crew, threads, wasm } = engine.info;
        assert.equal([crew, threads, wasm], ['private', count, 'simd']);
        assert.is(await answer(engine), expected, `${model.name}, ${count} members`);
      });
    }
  }
});

test('heads that cannot be shared evenly, more members than heads or tiles, the reference: the same bits', async () => {
  for (const changes of [{ nHeads: 9, nHeadsKv: 3, headDim: 16 }, { nHeads: 5, nHeadsKv: 1, headDim: 8 }, { nHeads: 12, nHeadsKv: 6, headDim: 24 }, { tiedHead: true, nHeads: 4, nHeadsKv: 4, headDim: 32 }]) {
    const model = randomModel(JSON.stringify(changes), planes, changes), expected = await withEngine(model, defaults, answer);
    for (const options of [crewOf(2), crewOf(4), crewOf(8), { ...crewOf(2), reference: true }]) {
      assert.is(await withEngine(model, options, answer), expected, `${model.name}, ${options.threads}`);
    }
  }
});

test('o and down by columns, where heads and groups allow it: the same bits, two exchanges a layer instead of four', async () => {
  const shape = { dim: 136, hiddenDim: 600, nHeads: 8, nHeadsKv: 4, headDim: 32 }, biases = new Set(['attn.o.bias', 'ffn.down.bias']);
  for (const [format, extras] of [[planes, new Set<string>()], [{ layout: 'planes', planes: 3, groupSize: 32, coding: 'f16' }, biases], [{ layout: 'uniform', planes: 4, groupSize: 64, coding: 'i6' }, biases]] as const) {
    const model = randomModel(`${format.layout} by columns`, format, shape, extras), expected = await withEngine(model, defaults, answer);
    for (const [ranks, byColumns] of [[2, true], [3, false], [4, true]] as const) {
      for (const name of ['attn.o', 'ffn.down']) assert.is(cut(model.header, { rank: 1, ranks })(`layers.0.${name}`).byColumns, byColumns);
      assert.is(await withEngine(model, crewOf(ranks), answer), expected, `${model.name}, ${ranks}`);
    }
  }
  // Heads that end within a group, a norm of the whole vector, a scale of the whole vector.
  const fits = (model: ReturnType<typeof small>) => ['attn.o', 'ffn.down'].map(name => cut(model.header, { rank: 0, ranks: 2 })(`layers.0.${name}`).byColumns);
  assert.equal(fits(randomModel('', planes, { ...shape, headDim: 40 })), [false, true]);
  assert.equal(fits(randomModel('', planes, shape, new Set(['attn.subNorm', 'ffn.subNorm']))), [false, false]);
  assert.equal(fits(randomModel('', { layout: 'ternary', planes: 2, groupSize: 64, coding: 'none' }, shape)), [false, false]);
});

test('the embedded model, in chunks of any size, several sessions in one pass', async () => {
  const source = await openFile(join(repoRoot, 'models', 'stories.lutra.safetensors')), model = { source, header: await readPackedHeader(source) };
  const ids = tokens(70), run = async (engine: LocalEngine) => {
    const hashes = [];
    for (const chunk of [32, 7, 1]) {
      const session = engine.openSession();
      hashes.push(await feed(engine, session, ids, 0, chunk));
    }
    await engine.forward([0, 1, 2].map(session => ({ session, position: 70, token: 9 + session, wantLogits: session !== 1 })));
    return [...hashes, engine.hashLogits(0, 0n), engine.hashLogits(1, 0n)];
  };
  const expected = await withEngine(model, { ...defaults, maxSessions: 3 }, run);
  for (const count of [2, 4]) assert.equal(await withEngine(model, { ...crewOf(count), maxSessions: 3 }, run), expected);
  await source.close();
});

test('without memory that threads can share: private, in as many workers as are worth it, and it says why', async () => {
  const { SharedArrayBuffer } = globalThis, model = small();
  const expected = await withEngine(model, defaults, answer);
  // @ts-expect-error as in an engine that has none
  delete globalThis.SharedArrayBuffer;
  try {
    await withEngine(model, { ...defaults, threads: 2 }, async engine => {
      assert.equal([engine.info.crew, engine.info.threads, engine.info.threadTimings], ['private', 2, null]);
      assert.match(engine.info.crewReason, 'no SharedArrayBuffer');
      assert.is(await answer(engine), expected);
    });
    // A layer of this one takes less than a message.
    const before = workers.length;
    await withEngine(model, { ...defaults, threads: 'auto' }, async engine => {
      assert.is(engine.info.crew, 'single');
      if (engine.info.threadTimings) assert.equal(Object.keys(engine.info.threadTimings), ['1']);
      assert.match(engine.info.crewReason, /no SharedArrayBuffer|one core/);
      assert.is(await answer(engine), expected);
    });
    assert.is(workers.length, before);
  } finally {
    globalThis.SharedArrayBuffer = SharedArrayBuffer;
  }
});

test('the number is settled with layers of the model\'s shape; workers that are not needed end', async () => {
  const model = randomModel('larger', { layout: 'f32', planes: 0, groupSize: 0, coding: 'none' }, { dim: 256, hiddenDim: 1024, nHeads: 8, nHeadsKv: 4, headDim: 32 });
  const expected = await withEngine(model, defaults, answer);
  workers.length = 0;
  await withEngine(model, crewOf('auto'), async engine => {
    assert.is(engine.info.crew, 'private');
    assert.is(engine.info.threads, workers.filter(worker => worker.threadId > 0).length + 1);
    assert.is(await answer(engine), expected);
  });
  assert.ok(workers.every(worker => worker.threadId < 0));
});

async function started(count: number): Promise<{ engine: LocalEngine; session: number; crew: Worker[] }> {
  workers.length = 0;
  const { source, header } = small(), engine = await createEngine(source, header, crewOf(count));
  const crew = [...workers], session = engine.openSession();
  assert.is(crew.length, count - 1);
  await feed(engine, session, tokens(5));
  return { engine, session, crew };
}

async function assertCrash({ engine, session, crew }: Awaited<ReturnType<typeof started>>, pass: Promise<unknown>): Promise<void> {
  assert.instance(await pass.then(() => null, error => error), EngineCrashError);
  assert.instance(await feed(engine, session, tokens(1)).catch(error => error), EngineCrashError);
  assert.throws(() => engine.logits(0), (error: Error) => error instanceof EngineCrashError);
  await engine.dispose();
  assert.ok(crew.every(worker => worker.threadId < 0));
  assert.instance(await feed(engine, session, tokens(1)).catch(error => error), DisposedError);
}

for (const count of [2, 4]) {
  test(`a worker that is ended between two passes, ${count} members`, async () => {
    const all = await started(count);
    await all.crew.at(-1)!.terminate();
    await assertCrash(all, feed(all.engine, all.session, tokens(5)));
  });

  test(`a worker that is ended in the middle of a pass, ${count} members`, async () => {
    const all = await started(count), passes = (async () => { for (;;) await feed(all.engine, all.session, tokens(100)); })();
    setTimeout(() => all.crew[0]!.terminate(), 20);
    await assertCrash(all, passes);
  });

  test(`an abort in the middle of a pass, and a pass after it; dispose in the middle, ${count} members`, async () => {
    const { engine, session, crew } = await started(count), expected = await feed(engine, session, tokens(40));
    for (let i = 0; i < 20; i++) {
      const controller = new AbortController(), rows = tokens(32, i).map((token, position) => ({ session, position, token, wantLogits: false }));
      const pass = (async () => { for (;;) await engine.forward(rows, controller.signal); })().catch(error => error);
      setTimeout(() => controller.abort(), i % 4 * 5);
      assert.is((await pass).name, 'AbortError');
      assert.is(await feed(engine, session, tokens(40)), expected);
    }
    const pass = (async () => { for (;;) await feed(engine, session, tokens(100)); })().catch(error => error);
    setTimeout(() => engine.dispose(), 10);
    assert.instance(await pass, DisposedError);
    await Promise.all(crew.map(worker => worker.threadId < 0 ? null : new Promise(resolve => worker.once('exit', resolve))));
  });
}

test('the next pass is ordered before a member goes on with one that was given up, as it happens in Deno: nothing more of that', async () => {
  const module = await compile('simd'), { name, header } = small(), rows = [{ session: 0, position: 0, token: 5, wantLogits: false }];
  const of = (rank: number): MemberOptions => ({ name, header, context: 64, kvType: 'f32', maxSessions: 1, reference: false, slice: { rank, ranks: 2 } });
  const sent: (ArrayBuffer | Answer)[] = [];
  let tell!: (message: ArrayBuffer | Order) => void;
  runPrivate({ post: message => sent.push(message as Answer), onMessage: listener => { tell = listener; } }, { role: 'private', module, values: undefined });
  tell({ open: of(1) });

  const chief = new Member(module, of(0), false, undefined, true), exchanger = new Exchanger(chief.memory);
  /** What a member waits for first. */
  const first = (pass: number): ArrayBuffer => {
    exchanger.begin(pass);
    const { step, exchange } = chief.runToExchange(0, chief.begin(rows));
    return exchanger.pack(step, exchange!, 0, exchange!.width);
  };
  tell({ pass: 1, rows });
  tell(first(1));
  tell({ pass: 2, rows });
  await new Promise(setImmediate);
  assert.equal(sent, [{ done: true }]);
  tell(first(2));
  await new Promise(setImmediate);
  assert.equal(sent.slice(1).map(values => new Uint32Array(values as ArrayBuffer, 0, 1)[0]), [2]);
});

test.run();

// serial
/** Addresses above 2 GiB, as much memory as the plan says and no more, and all of it given back. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { OutOfMemoryError as PublicOutOfMemoryError, loadModel } from 'lutra';
import { BadArgumentError, OutOfMemoryError } from '../../src/errors.js';
import { createEngine } from '../../src/engine/engine.js';
import { PAGE, align } from '../../src/engine/plan.js';
import { writePacked } from './files.js';
import { defaults, outcome, tiers } from './matrix.js';
import { everyFormat, randomModel, type TestModel } from './models.js';

const test = suite('memory');
const GiB = 2 ** 30, MB = 1e6;
const small = () => randomModel('small', { layout: 'planes', planes: 2, groupSize: 64, coding: 'i16' });

/** The same model behind a tensor of `gap` bytes that nobody reads or writes: they cost addresses, not memory. */
function moved({ name, header, source }: TestModel, gap: number): TestModel {
  const tensors = Object.fromEntries(Object.entries(header.tensors).map(([tensor, info]) => [tensor, { ...info, begin: info.begin + gap, end: info.end + gap }]));
  return {
    name, header: { ...header, tensors: { gap: { dtype: 'U8', shape: [gap], begin: 0, end: gap }, ...tensors }, dataBytes: header.dataBytes + gap },
    source: {
      ...source,
      size: source.size + gap,
      async read(target, offset) {
        const skip = Math.max(0, Math.min(target.length, gap - offset));
        if (skip < target.length) await source.read(target.subarray(skip), offset + skip - gap);
      },
    },
  };
}

for (const variant of tiers) {
  for (const threads of [1, 2]) {
    test(`weights and KV caches above 2 GiB, and just below 4 GiB: the same bits; ${variant}, ${threads} threads`, async () => {
      for (const model of everyFormat()) {
        const engine = await createEngine(model.source, model.header, { ...defaults, ...model.options, variant, threads });
        const expected = await outcome(engine), bytes = engine.memory.buffer.byteLength;
        await engine.dispose();
        for (const gap of [2 * GiB, 4 * GiB - bytes - PAGE]) {
          const { source, header } = moved(model, gap), high = await createEngine(source, header, { ...defaults, ...model.options, variant, threads });
          assert.ok(high.plan.weights + header.tensors.gap!.end > 2 * GiB);
          assert.is(high.info.threads, threads);
          assert.is(await outcome(high), expected, `${model.name}, ${gap} bytes higher`);
          assert.ok(high.kv(0).byteOffset > 2 * GiB && high.memory.buffer.byteLength >= gap + bytes);
          await high.dispose();
        }
      }
    });
  }
}

for (const threads of [1, 2]) {
  test(`memory grows by a session at a time to the plan's size and no further; slots are used again; ${threads} threads`, async () => {
    const { source, header } = small(), maxSessions = 5;
    const engine = await createEngine(source, header, { ...defaults, threads, maxSessions, context: 200 });
    const { plan, memory, info: { memoryBytes } } = engine, kvBase = align(plan.workspace + memoryBytes.workspace);
    assert.is(memory.buffer.byteLength, align(kvBase, PAGE));
    const sessions = Array.from({ length: maxSessions }, (_, i) => {
      const session = engine.openSession();
      assert.is(memory.buffer.byteLength, align(kvBase + (i + 1) * plan.kvBytes, PAGE));
      return session;
    });
    const full = memory.buffer.byteLength;
    assert.is(full, align(kvBase + maxSessions * plan.kvBytes, PAGE));
    assert.throws(() => memory.grow(1), (error: Error) => error instanceof RangeError);
    assert.throws(() => engine.openSession(), (error: Error) => error instanceof BadArgumentError && error.argument === 'maxSessions');
    for (let i = 0; i < 50; i++) {
      engine.closeSession(sessions[i % maxSessions]!);
      assert.is(engine.openSession(), sessions[i % maxSessions]);
    }
    assert.is(memory.buffer.byteLength, full);
    await engine.dispose();
  });
}

test('too much for 32 bits is refused before anything is reserved or read', async () => {
  const { source, header } = small();
  header.config.contextLength = 2 ** 24;
  const unread = { ...source, read: async () => { throw new Error('was read'); } };
  for (const options of [{ context: 2 ** 24 }, { context: 2 ** 20, maxSessions: 1000 }]) {
    const before = process.memoryUsage().rss, error = await createEngine(unread, header, { ...defaults, ...options }).catch(error => error);
    assert.instance(error, OutOfMemoryError);
    assert.ok(error.needed > 4 * GiB && error.available === 4 * GiB && /context/.test(error.hint), error.message);
    assert.ok(process.memoryUsage().rss - before < 50 * MB);
  }
});

test('what the machine refuses is a typed error; the engine goes on', async () => {
  const { source, header } = small(), Memory = WebAssembly.Memory;
  // The descriptors fit, the model does not.
  WebAssembly.Memory = class extends Memory { constructor(of: WebAssembly.MemoryDescriptor) { if (of.initial !== of.maximum) throw new RangeError('no'); super(of); } };
  assert.instance(await createEngine(source, header, defaults).catch(error => error), OutOfMemoryError);
  WebAssembly.Memory = Memory;

  const engine = await createEngine(source, header, { ...defaults, context: 200, maxSessions: 9 }), first = engine.openSession();
  engine.memory.grow = () => { throw new RangeError('no'); };
  assert.throws(() => { for (let i = 0; i < 8; i++) engine.openSession(); }, (error: Error) => error instanceof OutOfMemoryError);
  engine.closeSession(first);
  assert.ok(await outcome(engine));
  await engine.dispose();
});

test('loading and disposing of a model twenty times leaves nothing behind', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lutra-')), path = join(folder, 'model.safetensors');
  try {
    await writePacked(path, randomModel('40 MB', { layout: 'int8', planes: 0, groupSize: 0, coding: 'none' }, { dim: 1024, nHeads: 8, headDim: 128, hiddenDim: 4096, contextLength: 100_000 }));
    const rss: number[] = [];
    for (let i = 0; i < 20; i++) {
      const model = await loadModel(path, { threads: 1 + i % 2 });
      assert.ok(model.info().memoryBytes.weights > 30 * MB);
      await model.generate('abc', { maxTokens: 2 }).result;
      await model.dispose();
      rss.push(process.memoryUsage().rss);
    }
    // One model's size for what is collected late.
    assert.ok(rss.at(-1)! - rss[4]! < 40 * MB, rss.map(bytes => Math.round(bytes / MB)).join());
    const error = await loadModel(path, { maxSessions: 100, context: 100_000 }).catch(error => error);
    assert.instance(error, PublicOutOfMemoryError);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();

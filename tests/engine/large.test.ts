// serial, 600 s
/** A model that no 32-bit memory holds, over two of them. */
import { freemem } from 'node:os';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { shapes, synthetic } from '../../bench/shapes.js';
import { createEngine } from '../../src/engine/engine.js';
import { BadArgumentError, OutOfMemoryError } from '../../src/errors.js';
import { skip } from '../helpers/skip.js';
import { defaults, feed, tokens } from './matrix.js';

const test = suite('models beyond 4 GiB');
const GiB = 2 ** 30;
/** Llama 2 7B's layers, at 8 bits. */
const model = synthetic({ ...shapes['7b']!, nLayers: 29 }, '8', 0, '8');

test('one memory is refused by name and number, before anything is read', async () => {
  const source = { ...model.source, read: async () => { throw new Error('was read'); } };
  for (const options of [{ threads: 1 }, { crew: 'single', threads: 2 }, { crew: 'shared', threads: 2 }] as const) {
    const error = await createEngine(source, model.header, { ...defaults, ...options }).catch(error => error);
    assert.instance(error, OutOfMemoryError);
    assert.ok(error.needed > 6e9 && error.available === 4 * GiB);
  }
});

const need = 8 * GiB;
if (freemem() < need) {
  skip(test, '6 GB over two memories', `${(freemem() / GiB).toFixed(1)} GiB of memory are free, ${need / GiB} are needed`);
} else {
  test('6 GB over two memories and over three: the same logits', async () => {
    assert.ok(model.header.dataBytes > 6e9);
    const hashes: bigint[] = [];
    for (const threads of [2, 3]) {
      const engine = await createEngine(model.source, model.header, { ...defaults, variant: 'auto', threads });
      try {
        const { crew, crewReason, threads: members, memoryBytes } = engine.info;
        assert.equal([crew, members], ['private', threads]);
        assert.match(crewReason, 'one memory holds 4 GiB');
        assert.ok(memoryBytes.weights > 6e9 && engine.memory.buffer.byteLength < 4 * GiB);
        const session = engine.openSession(), begin = performance.now();
        hashes.push(await feed(engine, session, tokens(3), 0, 1));
        console.log(`${threads} memories: ${((performance.now() - begin) / 3000).toFixed(2)} s a token`);
        assert.throws(() => { engine.openSession(); }, (error: Error) => error instanceof BadArgumentError);
      } finally {
        await engine.dispose();
      }
    }
    assert.is(hashes[0], hashes[1]);
  });
}

test.run();

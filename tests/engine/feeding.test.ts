/** However a prompt is fed, and whatever else the engine does in between: the same logits, keys and values. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createEngine } from '../../src/engine/engine.js';
import { defaults, feed, tokens } from './matrix.js';
import { everyFormat } from './models.js';

const test = suite('feeding');

for (const threads of [1, 3]) {
  test(`a prompt at once, in chunks and token by token: the same logits, keys and values; ${threads} threads`, async () => {
    const ids = tokens(100);
    for (const { name, source, header, options } of everyFormat()) {
      const engine = await createEngine(source, header, { ...defaults, ...options, threads, maxSessions: 5 });
      assert.is(engine.info.threads, threads);
      const whole = engine.openSession(), expected = await feed(engine, whole, ids);
      const kv = engine.kv(whole).slice();
      assert.ok(kv.some(value => value !== 0));
      for (const chunk of [1, 3, 31]) { // 64 is two passes of 32, as at once
        const session = engine.openSession();
        assert.is(await feed(engine, session, ids, 0, chunk), expected, `${name}, chunks of ${chunk}`);
        assert.equal(engine.kv(session), kv, `${name}, chunks of ${chunk}`);
      }
      await engine.dispose();
    }
  });
}

test('sessions side by side, and rows of several in one pass, are as alone', async () => {
  const [a, b] = [tokens(40), tokens(40, 5)];
  for (const { name, source, header, options } of everyFormat()) {
    const engine = await createEngine(source, header, { ...defaults, ...options, maxSessions: 6 });
    const alone = [];
    for (const ids of [a, b]) {
      const session = engine.openSession();
      alone.push({ hash: await feed(engine, session, ids, 0, 4), kv: engine.kv(session).slice() });
    }
    const turns = [engine.openSession(), engine.openSession()], mixed = [engine.openSession(), engine.openSession()], hashes = [0n, 0n];
    for (let at = 0; at < 40; at += 4) {
      for (const [i, ids] of [a, b].entries()) await feed(engine, turns[i]!, ids.slice(at, at + 4), at);
      const rows = [0, 1, 2, 3].flatMap(k => [a, b].map((ids, i) => ({ session: mixed[i]!, position: at + k, token: ids[at + k]!, wantLogits: true })));
      await engine.forward(rows);
      rows.forEach((_, i) => { hashes[i % 2] = engine.hashLogits(i, hashes[i % 2]!); });
    }
    for (const [i, { hash, kv }] of alone.entries()) {
      assert.equal(engine.kv(turns[i]!), kv, `${name}, in turns`);
      assert.equal(engine.kv(mixed[i]!), kv, `${name}, in one pass`);
      assert.is(hashes[i], hash, `${name}, in one pass`);
    }
    await engine.dispose();
  }
});

test('cutting a session back and feeding on is as if it had never gone further; a used slot is as a fresh one', async () => {
  const ids = tokens(100), other = tokens(60, 9);
  for (const { name, source, header, options } of everyFormat()) {
    const engine = await createEngine(source, header, { ...defaults, ...options, maxSessions: 2 });
    const fresh = engine.openSession(), used = engine.openSession();
    await feed(engine, fresh, ids.slice(0, 40));
    const expected = await feed(engine, fresh, other, 40), kv = engine.kv(fresh).slice();
    await feed(engine, used, ids);
    assert.is(await feed(engine, used, other, 40), expected, name);
    assert.equal(engine.kv(used), kv, name);
    engine.closeSession(used);
    const again = engine.openSession();
    assert.is(again, used);
    assert.is(await feed(engine, again, ids.slice(0, 7)), await feed(engine, fresh, ids.slice(0, 7)), name);
    await engine.dispose();
  }
});

test.run();

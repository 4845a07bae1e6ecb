/** One arithmetic: the same ids, logits and keys and values, however a model is run and a prompt is fed. */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createEngine } from '../../src/engine/engine.js';
import { lutra } from '../cli/lutra.js';
import { repoRoot, sharedDir } from '../helpers/paths.js';
import { majors, nodeBinary } from '../helpers/runtimes.js';
import { skip } from '../helpers/skip.js';
import { defaults, feed, runMatrix, tokens } from './matrix.js';
import { everyFormat } from './models.js';

const test = suite('identity');

/** Real models at 2 bits, and what npm start runs. */
async function realModels(folder: string): Promise<string[]> {
  const paths: string[] = [], shared = sharedDir(), own = join(repoRoot, 'models');
  if (existsSync(own)) paths.push(...readdirSync(own).filter(name => name.endsWith('.safetensors')).map(name => join(own, name)));
  for (const [name, file] of shared ? [['stories260K', 'stories260K.bin'], ['stories3M', 'stories3M-q80.bin']] as const : []) {
    const packed = join(folder, `${name}.safetensors`);
    const { code, stderr } = await lutra(['quantize', join(shared!, 'models', name, file), '-o', packed, '--bits', '2', '--group', '64']);
    assert.is(code, 0, stderr);
    paths.push(packed);
  }
  return paths;
}

/** Outcomes by version of Node. */
const outcomes = new Map<number, Record<string, string>>();
const folder = mkdtempSync(join(tmpdir(), 'lutra-'));
let paths: string[] = [];
test.before(async () => { paths = await realModels(folder); });
test.after(() => rmSync(folder, { recursive: true }));

for (const major of majors) {
  test(`Node ${major}: variants, threads, kernels and reference agree`, async () => {
    const { stdout } = await promisify(execFile)(await nodeBinary(major), [fileURLToPath(import.meta.url), '--matrix', ...paths], { timeout: 120_000 });
    const { version, results } = JSON.parse(stdout) as { version: string; results: Record<string, string> };
    assert.match(version, new RegExp(`^v${major}\\.`));
    outcomes.set(major, results);
  });
}

test('all versions of Node agree', () => {
  assert.is(outcomes.size, majors.length);
  const [first, ...others] = outcomes.values();
  for (const other of others) assert.equal(other, first);
  assert.is(Object.keys(first!).length, [...everyFormat()].length + paths.length);
  assert.is(new Set(Object.values(first!)).size, Object.keys(first!).length, 'two models do the same');
});

if (!sharedDir()) skip(test, 'real models in the matrix', 'LUTRA_SHARED is not there');

for (const threads of [1, 3]) {
  test(`a prompt at once, in chunks and token by token: the same logits, keys and values; ${threads} threads`, async () => {
    const ids = tokens(100);
    for (const { name, source, header } of everyFormat()) {
      const engine = await createEngine(source, header, { ...defaults, threads, maxSessions: 5 });
      assert.is(engine.info.threads, threads);
      const whole = engine.openSession(), expected = await feed(engine, whole, ids);
      const kv = engine.kv(whole).slice();
      assert.ok(kv.some(value => value !== 0));
      for (const chunk of [1, 3, 31]) {
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
  for (const { name, source, header } of everyFormat()) {
    const engine = await createEngine(source, header, { ...defaults, maxSessions: 6 });
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
  for (const { name, source, header } of everyFormat()) {
    const engine = await createEngine(source, header, { ...defaults, maxSessions: 2 });
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

if (process.argv[2] === '--matrix') console.log(JSON.stringify({ version: process.version, results: await runMatrix(process.argv.slice(3)) }));
else test.run();

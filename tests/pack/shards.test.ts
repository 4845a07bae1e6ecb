/** Packed models in several files: cut and joined they are the one file, and what is broken is refused. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadModel } from 'lutra';
import { lutra } from '../cli/lutra.js';
import { refused, refusedOrMissing } from '../formats/attack.js';
import { repoRoot } from '../helpers/paths.js';
import { detect } from '../../src/formats/detect.js';
import { readPackedHeader } from '../../src/formats/packed.js';

const test = suite('shards');
const folder = mkdtempSync(join(tmpdir(), 'lutra-shards-')), source = join(repoRoot, 'tests', 'models', 'qwen3');
const whole = join(folder, 'whole.safetensors'), cut = join(folder, 'cut'), index = join(cut, 'model.safetensors.index.json');
test.after(() => rmSync(folder, { recursive: true }));

const quantize = async (...args: string[]) => {
  const { code, stderr } = await lutra(['quantize', source, '--bits', '4', ...args]);
  assert.is(code, 0, stderr);
};
const open = async () => {
  const found = await detect(cut);
  assert.ok('packed' in found);
  return found.packed;
};

test('the same bytes, whole or cut; logits', async () => {
  await quantize('-o', whole);
  await quantize('-o', cut, '--shard-size', '12kB');
  const names = readdirSync(cut).filter(name => name.endsWith('.safetensors')).sort(), count = String(names.length).padStart(5, '0');
  assert.ok(names.length > 3);
  assert.equal(names, names.map((_, i) => `model-${String(i + 1).padStart(5, '0')}-of-${count}.safetensors`));
  const { metadata, weight_map: map } = JSON.parse(readFileSync(index, 'utf8'));
  const packed = await open(), header = await readPackedHeader(packed);
  assert.equal(Object.keys(map).sort(), Object.keys(header.tensors).sort());
  assert.is(metadata.total_size, header.dataBytes);
  for (const name of names) {
    const largest = Math.max(...Object.entries(map).filter(([, file]) => file === name).map(([tensor]) => header.tensors[tensor]!.end - header.tensors[tensor]!.begin));
    assert.ok(statSync(join(cut, name)).size < Math.max(12_000, largest) + 8192, name);
  }
  const expected = readFileSync(whole), bytes = new Uint8Array(packed.size);
  // Pieces that begin and end anywhere.
  for (let at = 0; at < bytes.length; at += 777) await packed.read(bytes.subarray(at, Math.min(at + 777, bytes.length)), at);
  await packed.close();
  assert.ok(Buffer.compare(bytes, expected) === 0);

  const hashes = await Promise.all([whole, cut].map(async path => {
    await using model = await loadModel(path, { threads: 1 });
    return (await model.generate([1, 5, 9], { temperature: 0, maxTokens: 8, hashLogits: true }).result).logitsHash;
  }));
  assert.is(hashes[0], hashes[1]);
});

test('shards that are missing, cut, swapped; an index that says something else', async () => {
  const names = readdirSync(cut).filter(name => name.endsWith('.safetensors')).sort(), first = join(cut, names[0]!), second = join(cut, names[1]!);
  const attack = async (path: string, bytes: Uint8Array | null, what: string) => {
    const kept = readFileSync(path);
    if (bytes) writeFileSync(path, bytes);
    else rmSync(path);
    await refusedOrMissing(async () => readPackedHeader(await open()), what);
    writeFileSync(path, kept);
  };
  await attack(second, null, 'a missing shard');
  await attack(second, readFileSync(first), 'one shard twice');
  await attack(second, readFileSync(second).subarray(0, -1), 'a byte too few');
  await attack(second, new Uint8Array(100), 'zeros');
  const parsed = JSON.parse(readFileSync(index, 'utf8')), json = (map: unknown) => new TextEncoder().encode(JSON.stringify({ weight_map: map }));
  for (const [what, map] of Object.entries({
    'no map': undefined, 'a list': [], 'an empty map': {}, 'a path': { ...parsed.weight_map, x: '../secret.safetensors' }, 'a number': { ...parsed.weight_map, x: 1 },
    'a tensor that is not there': { ...parsed.weight_map, x: names[0] }, 'a tensor elsewhere': { ...parsed.weight_map, embedding: names[1] },
    'a tensor left out': Object.fromEntries(Object.entries(parsed.weight_map).slice(1)), 'other names': { 'norm': 'model.safetensors' },
  })) {
    await attack(index, json(map), what);
  }
  await refused(async () => readPackedHeader((await detect(second) as { packed: never }).packed), names[1]!, 'a shard alone');
  await (await open()).close();
});

test('a folder that cannot be made; nothing is left of a run that failed', async () => {
  const { code, stderr } = await lutra(['quantize', source, '-o', whole, '--shard-size', '1MB']);
  assert.is.not(code, 0);
  assert.match(stderr, /exists/);
  const broken = join(folder, 'broken'), out = join(folder, 'out');
  mkdirSync(broken);
  for (const name of readdirSync(source)) writeFileSync(join(broken, name), readFileSync(join(source, name)));
  const weights = readFileSync(join(broken, 'model.safetensors'));
  weights.fill(0xff, weights.length - 4000, weights.length - 2000); // NaN
  writeFileSync(join(broken, 'model.safetensors'), weights);
  assert.is.not((await lutra(['quantize', broken, '-o', out, '--shard-size', '20kB'])).code, 0);
  assert.ok(!existsSync(out) || readdirSync(out).length === 0);
});

test.run();

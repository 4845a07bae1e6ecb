/** The peers' random models: Lutra reads them too, and computes something finite. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadModel } from 'lutra';
import { fileModel, syntheticModel } from '../../bench/models.js';
import { streamedGguf, writeGguf } from '../../bench/gguf.js';

const test = suite('random GGUF files of the benchmark');
const folder = mkdtempSync(join(tmpdir(), 'lutra-bench-test-'));
test.after(() => rmSync(folder, { recursive: true }));

const shape = { dim: 256, hiddenDim: 512, nLayers: 2, nHeads: 4, nHeadsKv: 2, vocabSize: 1000 };

for (const type of ['Q2_K', 'Q3_K', 'Q4_0', 'Q4_1', 'Q8_0', 'TQ2_0']) {
  test(`${type}: our reader takes it, logits are finite and differ`, async () => {
    const path = join(folder, `${type}.gguf`);
    await writeGguf(path, shape, type);
    await using model = await loadModel(path, { threads: 1 });
    const { logits } = await model.score([5, 40, 300], { logits: true, from: 0 });
    const last = logits!.at(-1)!;
    assert.is(last.length, shape.vocabSize);
    assert.ok(last.every(Number.isFinite));
    assert.ok(new Set(last).size > 900);
  });
}

test('bytes that a step reads: counted alike by the writer and from the file', async () => {
  const path = join(folder, 'Q2_K.gguf');
  await writeGguf(path, shape, 'Q2_K');
  const model = await fileModel(path), gguf = await model.gguf!();
  await model.close();
  assert.is(gguf.format, 'Q2_K');
  assert.is(gguf.bytes, streamedGguf(shape, 'Q2_K'));
  const written = statSync(path).mtimeMs;
  await writeGguf(path, shape, 'Q2_K');
  assert.is(statSync(path).mtimeMs, written, 'a file that is there is not written again');
});

test('a large file is split, and the parts are the same model', async () => {
  const whole = join(folder, 'Q4_0.gguf'), path = join(folder, 'parts.gguf');
  await writeGguf(whole, shape, 'Q4_0');
  const paths = await writeGguf(path, shape, 'Q4_0', statSync(whole).size / 2);
  assert.ok(paths.length > 1);
  assert.ok(paths.every((path, i) => path.endsWith(`parts-0000${i + 1}-of-0000${paths.length}.gguf`)));
  const logitsOf = async (file: string) => {
    await using model = await loadModel(file, { threads: 1 });
    return (await model.score([5, 40, 300], { logits: true, from: 0 })).logits;
  };
  assert.equal(await logitsOf(paths[0]!), await logitsOf(whole));
});

test('a synthetic model has a counterpart of the same shape, or none', async () => {
  assert.is(syntheticModel('tiny', shape, '1', 64, '8', false).gguf, undefined);
  const model = syntheticModel(`test-${process.pid}`, shape, 'ternary', 128, '8', false), { paths, format } = await model.gguf!();
  assert.is(format, 'TQ2_0');
  assert.is(paths.length, 1);
  assert.ok(statSync(paths[0]!).size > 0);
  await model.close();
  assert.throws(() => statSync(paths[0]!));
});

test.run();

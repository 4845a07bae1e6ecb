/** Tiny random models of every architecture, against what transformers computes with them (README.md in this folder). */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BadArgumentError, loadModel, type LoadOptions } from 'lutra';
import { detect } from '../../src/formats/detect.js';
import { pack } from '../../src/pack/pack.js';
import { MemorySink } from '../../src/pack/sink.js';
import { unpack } from '../../src/pack/unpack.js';
import { bytesSource } from '../../src/platform/platform.js';
import { repoRoot } from '../helpers/paths.js';

/** What runs the linear layers; act-order and 8 bits with other zero points than 128 have no kernel of their own. Embedding and head are f32. */
const gptqKernels: Record<string, string[]> = {
  'gptq-2-v2': ['f32', 'uniform2-f32'], 'gptq-3-v2': ['f32', 'uniform3-f32'], 'gptq-4': ['f32', 'uniform4-f16mid'],
  'gptq-4-act-order': ['f32'], 'gptq-4-asym': ['f32', 'uniform4-f32'], 'gptq-8': ['f32', 'int8-f16'],
};

const test = suite('architectures');
const folder = join(repoRoot, 'tests', 'models');

interface Outputs { logits: number[][]; greedy: number[] }
interface Expected extends Outputs {
  prompt: number[];
  /** Of the rows of `logits`. */
  positions: number[];
  /** BitNet: with activations rounded to 8 bits, as its kernels do; otherwise they are not. */
  rounded?: Outputs;
}

/** Largest difference of a logit, as a share of the largest logit; greedy ids must be equal. */
async function errorOf(source: string | Uint8Array, options: LoadOptions, { prompt, positions }: Expected, { logits: expected, greedy }: Outputs): Promise<number> {
  await using model = await loadModel(source, { ...options, threads: 1 });
  const { logits } = await model.score(prompt, { logits: true, from: 0 });
  let error = 0, largest = 0;
  positions.forEach((position, i) => expected[i]!.forEach((value, id) => {
    error = Math.max(error, Math.abs(value - logits![position]![id]!));
    largest = Math.max(largest, Math.abs(value));
  }));
  const { ids } = await model.generate(prompt, { temperature: 0, maxTokens: greedy.length }).result;
  assert.equal(ids, greedy);
  return error / largest;
}

const logitsOf = async (source: string | Uint8Array, { prompt }: Expected, options: LoadOptions = {}) => {
  await using model = await loadModel(source, { ...options, threads: 1 });
  return (await model.score(prompt, { logits: true, from: 0 })).logits;
};

/** A packed file, and the same with its weights written out as f32. */
async function packed(path: string): Promise<{ bytes: Uint8Array; plain: Uint8Array }> {
  const found = await detect(path), sink = new MemorySink();
  assert.ok('source' in found);
  await pack(found.source, { threads: 1, embedding: 'f32' }, sink);
  await found.source.close();
  return { bytes: sink.bytes, plain: await unpack(bytesSource(path, sink.bytes)) };
}

const names = readdirSync(folder, { withFileTypes: true }).filter(entry => entry.isDirectory()).map(entry => entry.name);
for (const name of names) {
  const path = join(folder, name), expected: Expected = JSON.parse(readFileSync(join(path, 'expected.json'), 'utf8'));

  test(`${name}: logits of f32 weights within 1e-3 of the largest, and greedy ids`, async () => {
    // Plain weights of BitNet are trits only when they are packed.
    const error = name === 'bitnet-online' ? await errorOf((await packed(path)).plain, {}, expected, expected) : await errorOf(path, { weights: 'f32' }, expected, expected);
    assert.ok(error < 1e-3, `${error}`);
  });

  if (expected.rounded) {
    test(`${name}: logits of the kernels within 1e-3 of the largest, and greedy ids`, async () => {
      const error = await errorOf((await packed(path)).bytes, {}, expected, expected.rounded!);
      assert.ok(error < 1e-3, `${error}`);
    });
  }

  if (name.startsWith('gptq')) {
    test(`${name}: codes, scales and zero points are kept as they are`, async () => {
      assert.equal(await logitsOf((await packed(path)).plain, expected), await logitsOf(path, expected, { weights: 'f32' }));
      await using model = await loadModel(path, { threads: 1 });
      // Uniform levels: whatever their tables are.
      assert.equal(Object.keys(model.info().kernels).map(kernel => kernel.replace(/^(uniform.*)-.*$/, '$1')).sort(), gptqKernels[name]);
    });
  }
}

test('a sliding window bounds the context', async () => {
  const path = join(folder, 'mistral');
  {
    await using model = await loadModel(path, { threads: 1 });
    assert.is(model.info().context, 96);
  }
  try {
    await loadModel(path, { threads: 1, context: 97 });
    assert.unreachable('accepted');
  } catch (error) {
    assert.ok(error instanceof BadArgumentError && /sliding window of 96/.test(error.message), `${error}`);
  }
});

test.run();

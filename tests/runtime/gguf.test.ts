// serial
/** A published model as it is published: SmolLM2-135M-Instruct, GGUF, Q4_1 and Q8_0. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadModel } from 'lutra';
import { sharedDir } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';

const test = suite('a GGUF model');
const shared = sharedDir();

if (!shared) {
  skip(test, 'SmolLM2-135M', 'LUTRA_SHARED is not there');
} else {
  const folder = join(shared, 'models', 'smollm2-135m'), path = join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf');
  const { cases } = JSON.parse(readFileSync(join(folder, 'expected-greedy.json'), 'utf8')) as { cases: { prompt: string; promptIds: number[]; greedyIds: number[] }[] };

  test('with f32 weights: the greedy ids', async () => {
    await using model = await loadModel(path, { weights: 'f32', context: 256 });
    assert.equal(Object.keys(model.info().kernels), ['f32']);
    for (const { prompt, promptIds, greedyIds } of cases.slice(0, 2)) {
      assert.equal(await model.tokenize(prompt), promptIds);
      const { ids } = await model.generate(promptIds, { temperature: 0, maxTokens: greedyIds.length }).result;
      assert.equal(ids, greedyIds.slice(0, ids.length));
      assert.ok(ids.length > 20, `${ids.length} tokens`);
    }
  });

  test('left alone it keeps its own values: four planes and bytes in groups of 32', async () => {
    await using model = await loadModel(path, { context: 64 });
    assert.equal(Object.keys(model.info().kernels).sort(), ['int8-f16', 'uniform4-f16-lut8']);
    const { text } = await model.generate(cases[0]!.promptIds, { temperature: 0, maxTokens: 1 }).result;
    assert.is(text, await model.detokenize(cases[0]!.greedyIds.slice(0, 1)));
  });
}

test.run();

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadModel } from 'lutra';
import { lutra } from '../cli/lutra.js';
import { sharedDir } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';

const test = suite('real models at the reference level');
const shared = sharedDir();
const models = [['stories260K', 'stories260K.bin', 1.257, 9471], ['stories3M', 'stories3M-q80.bin', 1.1674, 5170]] as const;

interface Run { prompt: string; prompt_ids: number[]; ids: number[]; text: string }

for (const [name, file, crossEntropy, tokens] of models) {
  if (!shared) {
    skip(test, `${name}: greedy ids and cross-entropy`, 'LUTRA_SHARED is not there');
    continue;
  }
  const path = join(shared, 'models', name, file);

  test(`${name}: greedy ids`, async () => {
    const { runs } = JSON.parse(readFileSync(join(shared, 'models', 'expected-greedy.json'), 'utf8'))[file] as { runs: Run[] };
    await using model = await loadModel(path, { weights: 'f32' });
    assert.equal(Object.keys(model.info().kernels), ['f32']);
    for (const run of runs) {
      const result = await model.generate(run.prompt, { temperature: 0, maxTokens: run.ids.length - run.prompt_ids.length }).result;
      assert.equal(result.promptIds, run.prompt_ids);
      assert.equal([...result.promptIds, ...result.ids], run.ids);
      assert.is(run.prompt + result.text, run.text);
      assert.is(await model.detokenize(run.ids), run.text);
    }
  });

  test(`${name}: cross-entropy`, async () => {
    const documents = join(shared, 'data', 'text', 'eval-tinystories-20k.json');
    const { stdout } = await lutra(['eval', path, '--weights', 'f32', '--documents', documents, '--json']);
    const result = JSON.parse(stdout);
    assert.is(result.tokens, tokens);
    assert.ok(Math.abs(result.crossEntropy - crossEntropy) < 1e-4, `${result.crossEntropy}`);
  });
}

test.run();

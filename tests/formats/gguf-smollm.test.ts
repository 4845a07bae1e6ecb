import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadModel } from 'lutra';
import { sharedDir } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';

const test = suite('SmolLM2 from GGUF');
const shared = sharedDir();

interface Case { prompt: string; promptIds: number[]; greedyIds: number[] }

if (!shared) {
  skip(test, 'greedy ids at f32', 'LUTRA_SHARED is not set');
} else {
  const folder = join(shared, 'models/smollm2-135m');
  test('greedy ids at f32', async () => {
    const { cases } = JSON.parse(readFileSync(join(folder, 'expected-greedy.json'), 'utf8')) as { cases: Case[] };
    await using model = await loadModel(join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf'), { weights: 'f32', context: 128 });
    const { config, kernels } = model.info();
    assert.equal(Object.keys(kernels), ['f32']);
    for (const { prompt, promptIds, greedyIds } of cases) {
      // Special tokens are not parsed in a text.
      if (!prompt.includes('<|')) assert.equal(await model.tokenize(prompt), promptIds);
      const { ids, finishReason } = await model.generate(promptIds, { temperature: 0, maxTokens: greedyIds.length }).result;
      assert.equal(finishReason === 'stop' ? [...ids, config.eosIds[0]] : ids, greedyIds, prompt);
    }
  });
}

test.run();

// serial, 900 s
// The same tokens and logits everywhere; `npm run matrix` prints the same as a table.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runtime } from '../../build/runtimes.mjs';
import { skip } from '../helpers/skip.js';
import { goldenOf, places, runPlace, verdict } from './matrix.js';
import { matrixModels } from './models.js';

const test = suite('matrix');
const { models, missing, remove } = await matrixModels();
test.after(remove);
for (const line of missing) skip(test, line.split(':')[0]!, line.slice(line.indexOf(':') + 2));

for (const place of places) {
  const found = await runtime(place.runtime);
  for (const model of models) {
    const name = `${model.name}: ${place.name}`;
    if ('missing' in found) {
      skip(test, name, found.missing);
      continue;
    }
    test(name, async () => {
      const result = await runPlace(place, model);
      assert.ok('runs' in result && result.runs.length > 0);
      const golden = goldenOf(model);
      assert.equal(result.runs.map(run => verdict(run, golden)).filter(problem => problem), []);
    });
  }
}

test.run();

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { allocate } from '../../src/quant/allocate.js';

const candidates = [{ name: 'large', weights: 600, cost: 6 }, { name: 'dear', weights: 200, cost: 20 }, { name: 'cheap', weights: 200, cost: 0.01 }];
const mean = (bits: Map<string, number>) => candidates.reduce((sum, { name, weights }) => sum + bits.get(name)! * weights, 0) / 1000;

test('what costs most for its size comes first, and the mean is never exceeded', () => {
  assert.equal(allocate(candidates, 2), new Map([['large', 2], ['dear', 2], ['cheap', 2]]));
  assert.equal(allocate(candidates, 2.2), new Map([['large', 2], ['dear', 3], ['cheap', 2]]));
  assert.is(allocate(candidates, 2.45).get('dear'), 4);
  assert.equal(allocate(candidates, 4), new Map([['large', 4], ['dear', 4], ['cheap', 4]]));
  for (let wanted = 2; wanted <= 4; wanted += 0.1) assert.ok(mean(allocate(candidates, wanted)) <= wanted + 1e-9);
});

test.run();

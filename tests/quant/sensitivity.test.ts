/** Which tokens sensitivities are measured on. What is computed from them: allocate.test.ts, model.test.ts. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { samplesOf } from '../../src/quant/sensitivity.js';

const test = suite('samples of a calibration');

const texts = (count: number, tokens: number) => Array.from({ length: count }, (_, i) => new Array<number>(tokens).fill(i));
const begins = (sequences: number[][]) => samplesOf(sequences).map(sample => sample.sequences.map(ids => ids[0]));

test('a small calibration has one, of its first texts', () => {
  assert.equal(begins(texts(64, 512)), [[0, 1]]);
  assert.equal(begins(texts(3, 300)), [[0, 1, 2]]);
  assert.equal(samplesOf(texts(1, 5000)).map(({ tokens, sequences }) => [tokens, sequences.length, sequences[0]!.length]), [[1024, 1, 1024]]);
});

test('a large one has more, from all of it', () => {
  assert.equal(begins(texts(256, 512)), [[0, 1], [64, 65], [128, 129], [192, 193]]);
});

test.run();

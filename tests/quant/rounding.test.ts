import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Crew } from '../../src/quant/crew.js';
import { copied, mirror, multiply, newMatrix, t, values, type Matrix } from '../../src/quant/matrix.js';
import { noMetric, paramsOf, prepareMetric, recipes, roundMatrix, type Format } from '../../src/quant/rounding.js';
import { floats } from '../formats/synthetic.js';
import { matrixOf, randomMatrix, withCrew } from './crew.js';

const test = suite('rounding');
const uniform = (planes: number): Format => ({ levels: 'uniform', planes, groupSize: 32, sixBit: true });
const planes = (count: number): Format => ({ levels: 'planes', planes: count, groupSize: 32, sixBit: false });

/** XᵀX of inputs whose columns hang together. */
async function gramOf(crew: Crew, tokens: number, cols: number): Promise<Matrix> {
  const x = newMatrix(crew, tokens, cols), gram = newMatrix(crew, cols, cols);
  await multiply(crew, x, randomMatrix(crew, tokens, 24, 5), randomMatrix(crew, 24, cols, 6));
  floats(tokens * cols, 7).forEach((noise, i) => { values(crew, x)[i]! += noise * 0.3; });
  await multiply(crew, gram, t(x), x);
  await mirror(crew, gram);
  return gram;
}

/** tr(E H Eᵀ) in f64, H without damping. */
function objective(target: Float32Array, got: Float32Array, gram: Float32Array, tokens: number, cols: number): number {
  let sum = 0;
  for (let row = 0; row < target.length; row += cols) {
    const e = Float64Array.from({ length: cols }, (_, j) => target[row + j]! - got[row + j]!);
    for (let i = 0; i < cols; i++) for (let j = 0; j < cols; j++) sum += e[i]! * gram[i * cols + j]! * e[j]! / tokens;
  }
  return sum;
}

test('the factor is upper triangular, V Vᵀ = H in processing order', () => withCrew(async crew => {
  const n = 150, gram = await gramOf(crew, 200, n), { h, v, orderAt } = await prepareMetric(crew, gram, 200, 32, recipes.best);
  const order = crew.words(orderAt, n).slice(), V = values(crew, v), H = values(crew, h), G = values(crew, gram);
  assert.equal([...order].sort((a, b) => a - b), Array.from({ length: n }, (_, i) => i));
  for (let i = 0; i < n; i += 7) {
    for (let j = i; j < n; j++) {
      let sum = 0;
      for (let k = j; k < n; k++) sum += V[i * n + k]! * V[j * n + k]!;
      assert.ok(Math.abs(sum - H[i * n + j]!) < 1e-4, `[${i}, ${j}]`);
      if (i !== j) assert.ok(Math.abs(H[i * n + j]! - G[order[i]! * n + order[j]!]! / 200) < 1e-6);
    }
  }
}));

test('each step of the ladder comes nearer to the output; what is returned is what the codes mean', () => withCrew(async crew => {
  const rows = 70, cols = 144, tokens = 200, gram = await gramOf(crew, tokens, cols), weights = randomMatrix(crew, rows, cols, 8);
  const exact = values(crew, weights).slice(), G = values(crew, gram).slice();
  for (const format of [uniform(2), uniform(4), planes(2), planes(3)]) {
    let before = Infinity;
    for (const name of ['rtn', 'gptq', 'best'] as const) {
      await crew.within(async () => {
        const w = copied(crew, weights), metric = name === 'rtn' ? noMetric(crew, cols) : await prepareMetric(crew, gram, tokens, 32, recipes[name]);
        const { codes, params, rowScales, errors } = await roundMatrix(crew, w, metric, null, tokens, format, recipes[name]);
        const got = values(crew, w).slice(), error = objective(exact, got, G, tokens, cols), count = paramsOf(format), groups = Math.ceil(cols / 32);
        assert.ok(error < before, `${format.levels} ${format.planes} ${name}: ${error}, before ${before}`);
        before = error;
        if (name !== 'rtn') assert.ok(errors.reduce((a, b) => a + b, 0) >= error * 0.999, 'damping only adds');
        for (let i = 0; i < rows * cols; i++) {
          const row = Math.floor(i / cols), at = (row * groups + Math.floor(i % cols / 32)) * count, code = codes[i]!;
          const steps = [...params.subarray(at + 1, at + count)], middle = params[at]!;
          const level = format.levels === 'uniform' ? middle + steps[0]! * (code - (2 ** format.planes - 1) / 2)
            : steps.reduce((sum, step, p) => sum + step * ((code >> p & 1) - 0.5), middle);
          assert.ok(Math.abs(level - got[i]!) < 1e-5, `[${i}]`);
          if (!format.sixBit) continue;
          const scale = rowScales[row * 2]!, step = rowScales[row * 2 + 1]!;
          assert.ok(Math.abs(Math.round(middle / scale) * scale - middle) < 1e-6 && Math.abs(middle / scale) < 31.5);
          assert.ok(Math.abs(Math.round(steps[0]! / step) * step - steps[0]!) < 1e-6 && steps[0]! >= 0 && steps[0]! / step < 63.5);
        }
      });
    }
  }
}));

test('the target makes up for inputs that are wrong', () => withCrew(async crew => {
  // X = X̂ + D: with α = 1, no damping and 4 bits the rounded matrix on X̂ gives nearly what the exact one gives on X.
  const rows = 16, cols = 64, tokens = 300, seen = randomMatrix(crew, tokens, cols, 1), shift = randomMatrix(crew, cols, cols, 2);
  const cross = newMatrix(crew, cols, cols), gram = newMatrix(crew, cols, cols), drift = newMatrix(crew, tokens, cols), weights = randomMatrix(crew, rows, cols, 3);
  values(crew, shift).forEach((value, i, all) => { all[i] = 0.1 * value; });
  await multiply(crew, drift, seen, shift);
  await multiply(crew, cross, t(drift), seen);
  await multiply(crew, gram, t(seen), seen);
  await mirror(crew, gram);
  const wanted = newMatrix(crew, tokens, rows), plain = newMatrix(crew, tokens, rows), output = newMatrix(crew, tokens, rows);
  await multiply(crew, plain, seen, t(weights));
  await multiply(crew, output, drift, t(weights));
  values(crew, wanted).set(values(crew, plain).map((value, i) => value + values(crew, output)[i]!));
  const recipe = { ...recipes.best, damping: 1e-4, correction: 1 }, metric = await prepareMetric(crew, gram, tokens, 32, recipe);
  await roundMatrix(crew, weights, metric, { cross }, tokens, planes(4), recipe);
  await multiply(crew, output, seen, t(weights));
  const distance = (a: Float32Array) => a.reduce((sum, value, i) => sum + (value - values(crew, wanted)[i]!) ** 2, 0);
  assert.ok(distance(values(crew, output)) < 0.2 * distance(values(crew, plain)), `${distance(values(crew, output))} of ${distance(values(crew, plain))}`);
}));

test('dead columns, constant rows, no input at all: finite, and constant rows are kept', () => withCrew(async crew => {
  const rows = 20, cols = 96, tokens = 50, gram = await gramOf(crew, tokens, cols), weights = floats(rows * cols, 4);
  weights.fill(0.25, cols, 2 * cols).fill(0, 2 * cols, 3 * cols);
  for (const [name, sound] of [['dead', (i: number) => i !== 5 && i !== 64], ['none', () => false]] as const) {
    const G = values(crew, gram);
    for (let i = 0; i < cols; i++) for (let j = 0; j < cols; j++) if (!sound(i) || !sound(j)) G[i * cols + j] = 0;
    for (const format of [uniform(2), planes(2)]) {
      await crew.within(async () => {
        const w = matrixOf(crew, rows, cols, weights);
        await roundMatrix(crew, w, await prepareMetric(crew, gram, tokens, 32, recipes.best), null, tokens, format, recipes.best);
        const got = values(crew, w);
        assert.ok(got.every(Number.isFinite), name);
        assert.ok(got.subarray(cols, 2 * cols).every(value => Math.abs(value - 0.25) < 0.005), name);
        assert.ok(got.subarray(2 * cols, 3 * cols).every(value => value === 0), name);
      });
    }
  }
}));

test.run();

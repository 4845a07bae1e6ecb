import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { mirror, multiply, newMatrix, Store, t, values, zeros } from '../../src/quant/matrix.js';
import { matrixOf, randomMatrix, withCrew } from './crew.js';

const test = suite('matrix products');

test('in f64 the same up to rounding: every stride, edges of tiles and panels, more than one task', () => withCrew(async crew => {
  for (const [m, n, depth] of [[1, 1, 1], [5, 9, 3], [193, 257, 40], [8, 16, 300], [65, 31, 513]] as const) {
    for (const [left, right] of [[false, false], [false, true], [true, false], [true, true]]) {
      await crew.within(async () => {
        const a = randomMatrix(crew, left ? depth : m, left ? m : depth, 1), b = randomMatrix(crew, right ? n : depth, right ? depth : n, 2);
        const c = matrixOf(crew, m, n, new Float32Array(m * n).fill(0.5)), x = values(crew, a), y = values(crew, b);
        for (const [how, start, sign] of [[Store.set, 0, 1], [Store.add, 0.5, 1], [Store.subtract, 0.5, -1]] as const) {
          values(crew, c).fill(0.5);
          await multiply(crew, c, left ? t(a) : a, right ? t(b) : b, how);
          for (let i = 0; i < m; i += Math.max(1, m >> 3)) {
            for (let j = 0; j < n; j++) {
              let sum = 0;
              for (let k = 0; k < depth; k++) sum += x[left ? k * m + i : i * depth + k]! * y[right ? j * depth + k : k * n + j]!;
              const got = values(crew, c)[i * n + j]!;
              assert.ok(Math.abs(got - start - sign * sum) < 1e-5 * (1 + depth), `${m} ${n} ${depth} ${left} ${right} ${how} [${i}, ${j}]`);
            }
          }
        }
      });
    }
  }
}));

test('an element is the sum over k in order, bit by bit', () => withCrew(async crew => {
  const m = 13, n = 21, depth = 700, a = randomMatrix(crew, m, depth, 1), b = randomMatrix(crew, n, depth, 2), c = randomMatrix(crew, m, n, 3);
  const x = values(crew, a), y = values(crew, b), before = values(crew, c).slice();
  await multiply(crew, c, a, t(b), Store.add);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = before[i * n + j]!;
      for (let k = 0; k < depth; k++) sum = Math.fround(sum + Math.fround(x[i * depth + k]! * y[j * depth + k]!));
      assert.is(values(crew, c)[i * n + j], sum);
    }
  }
}));

test('a symmetric product from its upper tiles; the same bits with 1 and 3 threads', async () => {
  const results: Float32Array[] = [];
  for (const threads of [1, 3]) {
    await withCrew(async crew => {
      const n = 530, x = randomMatrix(crew, 70, n, 3), whole = newMatrix(crew, n, n), half = zeros(crew, n, n);
      await multiply(crew, whole, t(x), x);
      await multiply(crew, half, t(x), x, Store.add, true);
      await mirror(crew, half);
      assert.equal(values(crew, half).slice(), values(crew, whole).slice());
      results.push(values(crew, half).slice());
    }, threads);
  }
  assert.equal(results[0], results[1]);
});

test.run();

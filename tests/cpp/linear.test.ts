/** Every kernel against the scalar reference, bit for bit, on shapes that fit nothing; and the reference against doubles. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { hasRelaxedSimd } from '../../src/engine/instance.js';
import { BLOCK_COLUMNS, BLOCK_PARAM_BYTES, TILE_ROWS, sizeOfPart } from '../../src/generated/layout.js';
import { decodeRows } from '../assembly/reference.js';
import type { PartFormat } from '../../src/formats/packed.js';
import { Bare, noise, type Spec } from './harness.js';

const test = suite('linear layers');

const formats: Omit<Spec, 'rows' | 'cols' | 'segmented'>[] = [];
for (const planes of [1, 2, 3, 4]) {
  for (const groupSize of [32, 64, 128]) {
    for (const coding of ['i16', 'f16', 'f32'] as const) formats.push({ layout: 'planes', planes, groupSize, coding });
  }
}
for (const groupSize of [32, 64, 128]) {
  for (const coding of ['none', 'f16', 'f32'] as const) formats.push({ layout: 'ternary', planes: 2, groupSize, coding });
}
for (const groupSize of [16, 32, 64, 128]) {
  for (const planes of [1, 2, 3, 4]) formats.push({ layout: 'uniform', planes, groupSize, coding: 'i6' });
  for (const planes of [2, 3, 4]) formats.push({ layout: 'uniform', planes, groupSize, coding: 'f32' });
}
for (const planes of [4, 5]) for (const coding of ['f16', 'f16mid', 'k6'] as const) formats.push({ layout: 'uniform', planes, groupSize: 32, coding });
formats.push({ layout: 'uniform', planes: 2, groupSize: 16, coding: 'k4' });
for (const planes of [3, 6]) formats.push({ layout: 'uniform', planes, groupSize: 16, coding: 'k8' });
for (const groupSize of [32, 128]) formats.push({ layout: 'int8', planes: 0, groupSize, coding: 'f16' });
formats.push({ layout: 'int8', planes: 0, groupSize: 0, coding: 'none' }, { layout: 'f32', planes: 0, groupSize: 0, coding: 'none' });

/** Odd on purpose: K no multiple of the group, N none of 16, one row, one token, many streams and few. */
const shapes = [
  { rows: 1, cols: 1, m: 1, segmented: false },
  { rows: 16, cols: 128, m: 1, segmented: false },
  { rows: 17, cols: 172, m: 2, segmented: true },
  { rows: 200, cols: 333, m: 3, segmented: false },
  { rows: 100, cols: 1000, m: 32, segmented: true },
];

/** Blocks of 256 columns cannot be filled up. */
const colsOf = ({ coding }: PartFormat, cols: number) => BLOCK_PARAM_BYTES[coding] ? Math.ceil(cols / BLOCK_COLUMNS) * BLOCK_COLUMNS : cols;

const bits = (y: Float32Array) => new Uint32Array(y.buffer);
const activations = (n: number, seed: number) => {
  const random = noise(seed);
  // Outliers, zeros and a stretch of tiny values, as real activations have them.
  return Float32Array.from({ length: n }, (_, i) => i % 41 === 0 ? 0 : i % 97 === 5 ? 30 * random() : i % 200 > 190 ? 1e-38 * random() : random());
};

for (const variant of ['simd', 'relaxed'] as const) {
  // V8 of Node 20 has no relaxed SIMD; other versions are covered by the runtime tests.
  if (variant === 'relaxed' && !hasRelaxedSimd()) continue;
  for (const format of formats) {
    test(`${variant}: ${format.layout} ${format.planes} ${format.coding} g${format.groupSize} equals the reference`, () => {
      const bare = new Bare(variant);
      shapes.forEach(({ rows, cols: fewest, m, segmented }, i) => {
        const cols = colsOf(format, fewest), spec = { ...format, rows, cols, segmented };
        const linear = bare.randomLinear(spec, 7 + i), x = activations(m * cols, 99 + i);
        const { run, read } = bare.prepare(linear, spec, x, m);
        run(true);
        const expected = bits(read());
        run(false);
        const actual = bits(read());
        for (let j = 0; j < expected.length; j++) {
          if (actual[j] !== expected[j]) assert.unreachable(`${rows} x ${cols}, ${m} vectors: output ${j} is ${new Float32Array(actual.buffer)[j]}, expected ${new Float32Array(expected.buffer)[j]}`);
        }
      });
    });
  }
}

test('100,000 rows of 2 bits, ternary and int8', () => {
  const bare = new Bare('simd');
  for (const format of [formats.find(f => f.planes === 2 && f.groupSize === 64 && f.coding === 'i16')!, formats.find(f => f.layout === 'ternary')!, formats.at(-2)!]) {
    const spec = { ...format, rows: 100_000, cols: 64, segmented: false };
    const linear = bare.randomLinear(spec, 3), x = activations(64, 5);
    assert.equal(bits(bare.run(linear, spec, x, 1, false)), bits(bare.run(linear, spec, x, 1, true)));
  }
});

test('one vector at a time gives the bits of many at once', () => {
  const bare = new Bare('simd');
  for (const format of formats) {
    const cols = colsOf(format, 300), spec = { ...format, rows: 40, cols, segmented: true }, linear = bare.randomLinear(spec, 11), x = activations(7 * cols, 12);
    const together = bits(bare.run(linear, spec, x, 7, false));
    for (let i = 0; i < 7; i++) {
      assert.equal(bits(bare.run(linear, spec, x.slice(i * cols, (i + 1) * cols), 1, false)), together.slice(i * 40, (i + 1) * 40));
    }
  }
});

/** The formula in doubles, from the bytes of the tiles (docs/format.md). */
function exact(bare: Bare, linear: number, spec: Spec, x: Float32Array): Float64Array {
  const { view } = bare, tiles = Math.ceil(spec.rows / TILE_ROWS), bytes = (at: number, length: number) => new Uint8Array(bare.memory.buffer, at, length);
  const nParts = view.getUint32(linear + 8, true), parts = view.getUint32(linear + 12, true);
  const data = Array.from({ length: nParts }, (_, p) => parts + p * sizeOfPart).map(at => bytes(view.getUint32(at + 24, true), tiles * view.getUint32(at + 28, true)));
  const rowScale = bytes(view.getUint32(spec.coding === 'i6' ? parts + 32 : linear + 16, true), 64 * tiles);
  return Float64Array.from(decodeRows(spec, data, rowScale, spec.rows, spec.cols, spec.segmented), row => row.reduce((sum, w, k) => sum + w * x[k]!, 0));
}

// Root-mean-square error relative to that of the outputs: what rounding activations costs a product. Lab: 1.1e-2 for
// tables of 7 bits, 6.2e-3 for int8 at g128, tables of 8 bits lie between; int8 weights take int16 activations, f32 takes none.
for (const format of formats) {
  const bound = format.layout === 'f32' ? 1e-6 : format.layout === 'int8' ? 2e-4 : format.layout === 'ternary' || format.planes === 3 ? 9e-3 : format.planes >= 4 ? 1e-2 : 2e-2;
  test(`the reference of ${format.layout} ${format.planes} ${format.coding} g${format.groupSize} is within ${bound} of the formula`, () => {
    const bare = new Bare('simd'), random = noise(21);
    const spec = { ...format, rows: 48, cols: 1024, segmented: true }, linear = bare.randomLinear(spec, 31);
    // Sums of uniforms: close to normal.
    const x = Float32Array.from({ length: 1024 }, () => random() + random() + random() + random());
    const y = bare.run(linear, spec, x, 1, true), truth = exact(bare, linear, spec, x);
    let error = 0, power = 0;
    truth.forEach((t, i) => { error += (y[i]! - t) ** 2; power += t ** 2; });
    assert.ok(Math.sqrt(error / power) < bound, `${Math.sqrt(error / power)}`);
  });
}

test.run();

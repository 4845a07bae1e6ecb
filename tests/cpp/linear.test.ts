/** Every kernel against the scalar reference, bit for bit, on shapes that fit nothing; and the reference against doubles. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { hasRelaxedSimd } from '../../src/engine/instance.js';
import { TILE_ROWS } from '../../src/generated/layout.js';
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
formats.push({ layout: 'int8', planes: 0, groupSize: 0, coding: 'none' }, { layout: 'f32', planes: 0, groupSize: 0, coding: 'none' });

/** Odd on purpose: K no multiple of the group, N none of 16, one row, one token, many streams and few. */
const shapes = [
  { rows: 1, cols: 1, m: 1, segmented: false },
  { rows: 16, cols: 128, m: 1, segmented: false },
  { rows: 17, cols: 172, m: 2, segmented: true },
  { rows: 200, cols: 333, m: 3, segmented: false },
  { rows: 100, cols: 1000, m: 32, segmented: true },
];

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
      shapes.forEach(({ rows, cols, m, segmented }, i) => {
        const spec = { ...format, rows, cols, segmented };
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
    const spec = { ...format, rows: 40, cols: 300, segmented: true }, linear = bare.randomLinear(spec, 11), x = activations(7 * 300, 12);
    const together = bits(bare.run(linear, spec, x, 7, false));
    for (let i = 0; i < 7; i++) {
      assert.equal(bits(bare.run(linear, spec, x.slice(i * 300, (i + 1) * 300), 1, false)), together.slice(i * 40, (i + 1) * 40));
    }
  }
});

/** The formula in doubles, from the bytes of the tiles (docs/format.md). */
function exact(bare: Bare, linear: number, spec: Spec, x: Float32Array): Float64Array {
  const view = bare.view, y = new Float64Array(spec.rows);
  const nParts = view.getUint32(linear + 8, true), parts = view.getUint32(linear + 12, true), rowScale = view.getUint32(linear + 16, true);
  const half = (at: number) => {
    const h = view.getUint16(at, true), e = h >> 10 & 31, f = h & 1023;
    return (h & 0x8000 ? -1 : 1) * (e ? (1 + f / 1024) * 2 ** (e - 15) : f * 2 ** -24);
  };
  const number = { i16: (at: number) => view.getInt16(at, true), f16: half, f32: (at: number) => view.getFloat32(at, true), none: () => 1 }[spec.coding];
  const size = spec.coding === 'f32' ? 4 : 2;
  for (let p = 0; p < nParts; p++) {
    const part = parts + p * 32, colBegin = view.getUint32(part + 16, true), cols = view.getUint32(part + 20, true);
    const data = view.getUint32(part + 24, true), bytes = view.getUint32(part + 28, true);
    for (let row = 0; row < spec.rows; row++) {
      const tile = data + Math.floor(row / TILE_ROWS) * bytes, r = row % TILE_ROWS;
      for (let k = 0; k < cols; k++) {
        let w: number;
        if (spec.layout === 'f32') w = view.getFloat32(tile + 4 * (k * 16 + r), true);
        else if (spec.layout === 'int8') w = view.getInt8(tile + (k >> 1) * 32 + 2 * r + (k & 1));
        else {
          const P = spec.planes, G = spec.groupSize, codes = G / 8 * P * 16, values = spec.layout === 'planes' ? P + 1 : spec.coding === 'none' ? 0 : 1;
          const group = tile + Math.floor(k / G) * (codes + values * 16 * size), column = k % G;
          const bit = (plane: number) => view.getUint8(group + ((column >> 3) * P + plane) * 16 + (r < 8 ? 2 * r : 2 * (r - 8) + 1)) >> (column & 7) & 1;
          const value = (v: number) => number(group + codes + (v * 16 + r) * size);
          if (spec.layout === 'ternary') w = (bit(0) - bit(1)) * value(0);
          else {
            w = value(P);
            for (let q = 0; q < P; q++) w += value(q) * (spec.coding === 'i16' ? bit(q) - 0.5 : bit(q));
          }
        }
        y[row]! += w * x[colBegin + k]! * view.getFloat32(rowScale + 4 * row, true);
      }
    }
  }
  return y;
}

// Root-mean-square error relative to that of the outputs: what rounding activations costs a product. Lab: 1.1e-2 for
// rounded tables, 6.2e-3 for int8 at g128; int8 weights take int16 activations, f32 takes none.
for (const format of formats) {
  const bound = format.layout === 'f32' ? 1e-6 : format.layout === 'int8' ? 2e-4 : format.layout === 'ternary' || format.planes >= 3 ? 9e-3 : 2e-2;
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

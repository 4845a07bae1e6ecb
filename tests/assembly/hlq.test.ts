import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { floats } from '../formats/synthetic.js';
import { hlq, nearest } from './reference.js';
import { loadWasm } from './wasm.js';

const { wasm, memory, base } = await loadWasm();

/** params[group][p][row] of up to 16 rows. */
function fit(rows: Float32Array[], planes: number, groupSize: number): number[][][] {
  const cols = rows[0]!.length, source = base, tile = source + 64 * cols, params = tile + 64 * cols, groups = Math.ceil(cols / groupSize);
  const scratch = params + 64 * (planes + 1) * groups;
  new Uint8Array(memory.buffer, source, 64 * cols).fill(0);
  rows.forEach((row, r) => new Float32Array(memory.buffer, source + 4 * cols * r, cols).set(row));
  wasm.tileFromRows!(source, cols, tile);
  wasm.hlqFit!(tile, cols, planes, groupSize, params, scratch);
  const values = new Float32Array(memory.buffer, params);
  return Array.from({ length: groups }, (_, g) => Array.from({ length: planes + 1 }, (_, p) => Array.from(rows, (_, r) => values[16 * ((planes + 1) * g + p) + r]!)));
}

const squaredError = (w: Float32Array, params: number[]) => {
  const planes = params.length - 1;
  const levels = Array.from({ length: 2 ** planes }, (_, code) => params.slice(0, planes).reduce((sum, s, p) => sum + (code >> p & 1) * s, params[planes]!));
  return w.reduce((sum, value) => sum + (value - levels[nearest(value, levels)]!) ** 2, 0);
};

/** The example of the ELUTQ algorithm: two rows of one group of 8, 2 planes. */
const example = [
  Float32Array.of(-.90, -.25, .10, .05, -.30, .45, -.10, 1.20),
  Float32Array.of(.02, .51, -.47, -.05, .98, -.52, .03, -1.04),
];

test('worked example: parameters, and codes and f16 parameters byte for byte', () => {
  const [group] = fit(example, 2, 8);
  const expected = [[.78125, 1.31875, -.884375], [.712727, 1.307273, -1.151818]];
  for (const r of [0, 1]) for (const p of [0, 1, 2]) assert.ok(Math.abs(group![p]![r]! - expected[r]![p]!) < 1e-6, `row ${r}, parameter ${p}`);

  const cols = 8, tile = base + 512, params = tile + 512, scale = params + 192, dst = scale + 64, scratch = dst + 256;
  wasm.planesFromTile!(tile, cols, 2, 8, 2, params, scale, dst, scratch);
  const bytes = new Uint8Array(memory.buffer, dst), halves = new Uint16Array(memory.buffer, dst + 32, 48);
  // Row r is byte 2r of its plane; bit i is column i, the first the lowest.
  assert.equal([bytes[0], bytes[2]], [0xde, 0x34], 'plane 0');
  assert.equal([bytes[16], bytes[18]], [0xa0, 0x5b], 'plane 1');
  assert.equal([halves[0], halves[1], halves[16], halves[17]], [0x3a40, 0x39b4, 0x3d46, 0x3d3b], 's');
  assert.equal([halves[32], halves[33]], [0xbb13, 0xbc9b], 'z');
});

test('parameters are those of the plain reference', () => {
  for (const planes of [1, 2, 3, 4]) {
    for (const [cols, groupSize] of [[128, 128], [192, 64], [96, 32], [172, 64], [44, 32], [33, 32]] as const) {
      const rows = Array.from({ length: 16 }, (_, r) => floats(cols, 1000 * planes + 10 * r + cols));
      fit(rows, planes, groupSize).forEach((group, g) => {
        rows.forEach((row, r) => {
          const w = row.subarray(g * groupSize, (g + 1) * groupSize), expected = hlq(w, planes);
          for (let p = 0; p <= planes; p++) {
            assert.ok(Math.abs(group[p]![r]! - expected[p]!) < 1e-5, `${planes} planes, ${cols}/${groupSize}, group ${g}, row ${r}: ${group[p]![r]} ${expected[p]}`);
          }
        });
      });
    }
  }
});

test('degenerate groups: exact where it can be, never worse than uniform levels, of minimum norm', () => {
  const cases: Record<string, number[]> = {
    zeros: new Array(32).fill(0), constant: new Array(32).fill(0.75), 'two values': Array.from({ length: 32 }, (_, k) => k % 3 ? -0.5 : 0.25),
    'three values': Array.from({ length: 32 }, (_, k) => k % 3 - 1), 'one outlier': Array.from({ length: 32 }, (_, k) => k === 7 ? 100 : 0.01 * (k % 2)),
    'tiny values': Array.from({ length: 32 }, (_, k) => (k % 5) * 1e-38), single: [0.3], pair: [0.3, -0.7],
  };
  for (const [name, values] of Object.entries(cases)) {
    for (const planes of [1, 2, 3, 4]) {
      const w = Float32Array.from(values), params = fit([w], planes, 32)[0]!.map(row => row[0]!);
      assert.ok(params.every(Number.isFinite), name);
      const low = Math.min(...w), step = (Math.max(...w) - low) / (2 ** planes - 1);
      const uniform = [...Array.from({ length: planes }, (_, p) => step * 2 ** p), low];
      assert.ok(squaredError(w, params) <= squaredError(w, uniform) + 1e-10, `${name}, ${planes} planes`);
      const norm = Math.hypot(...params), expected = Math.hypot(...hlq(w, planes));
      assert.ok(Math.abs(norm - expected) <= 1e-4 * (1 + expected), `${name}, ${planes} planes: norm ${norm}, expected ${expected}`);
    }
  }
  assert.equal(fit([new Float32Array(32)], 2, 32)[0]!.map(row => row[0]), [0, 0, 0]);
});

test('a row does not depend on its neighbours, nor a short group on what follows', () => {
  const rows = Array.from({ length: 16 }, (_, r) => floats(80, 7 * r));
  const all = fit(rows, 3, 64);
  rows.forEach((row, r) => assert.equal(fit([row], 3, 64).map(group => group.map(p => p[0])), all.map(group => group.map(p => p[r]))));
  assert.equal(fit([rows[0]!.subarray(64)], 3, 64)[0], all[1]!.map(p => [p[0]]));
});

test.run();

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { floats, q8 } from '../formats/synthetic.js';
import { halfToNumber, numberToHalf } from './reference.js';
import { loadWasm } from './wasm.js';

const { wasm, memory, base } = await loadWasm();
const scales = base + (1 << 20), dst = scales + (1 << 20);

function decode(name: string, codes: Uint8Array, cols: number, { phase = 0, param = 0, scale = new Uint8Array(0) }: { phase?: number; param?: number; scale?: Uint8Array } = {}): Float32Array {
  new Uint8Array(memory.buffer).set(codes, base);
  new Uint8Array(memory.buffer).set(scale, scales);
  wasm[name]!(base, scales, dst, cols, phase, param);
  return new Float32Array(memory.buffer).slice(dst / 4, dst / 4 + cols);
}

test('f32: bits as they are', () => {
  const values = floats(37, 1);
  assert.equal(decode('rowFromF32', new Uint8Array(values.buffer), 37), values);
});

test('f16: every half', () => {
  const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const values = decode('rowFromF16', new Uint8Array(halves.buffer), 65536);
  halves.forEach(half => assert.ok(Object.is(values[half], Math.fround(halfToNumber(half))), `half ${half}`));
  assert.equal(decode('rowFromF16', new Uint8Array(halves.buffer).subarray(2 * 15360), 7), values.slice(15360, 15367));
});

test('bf16: the upper half of f32', () => {
  const codes = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const bits = new Uint32Array(decode('rowFromBf16', new Uint8Array(codes.buffer), 65536).buffer);
  codes.forEach(code => assert.is(bits[code]! >>> 16, code));
});

test('q8: groups of any size, rows that begin inside a group', () => {
  for (const [group, cols, rows] of [[8, 64, 3], [64, 192, 2], [8, 172, 4], [3, 10, 6], [32, 20, 8], [1, 5, 2]] as const) {
    const [codes, scaleBytes] = q8(floats(cols * rows, group), group), all = new Float32Array(scaleBytes.buffer);
    for (let r = 0; r < rows; r++) {
      const first = Math.floor(r * cols / group);
      const values = decode('rowFromQ8', codes.subarray(r * cols, (r + 1) * cols), cols, { phase: r * cols - first * group, param: group, scale: scaleBytes.subarray(4 * first) });
      const expected = Float32Array.from({ length: cols }, (_, k) => (codes[r * cols + k]! << 24 >> 24) * all[Math.floor((r * cols + k) / group)]!);
      assert.equal(values, expected, `group ${group}, ${cols} columns, row ${r}`);
    }
  }
});

test('ternary: four fields of a byte; a field of 3 is NaN', () => {
  const codes = Uint8Array.from({ length: 256 }, (_, i) => i);
  for (const phase of [0, 2, 4, 6]) {
    decode('rowFromTernary2', codes, 256, { phase }).forEach((value, i) => assert.ok(Object.is(value, [-1, 0, 1, NaN][i >> phase & 3])));
  }
});

test('rows to tile and back', () => {
  for (const cols of [1, 3, 4, 7, 64, 173]) {
    const rows = floats(16 * cols, cols), tile = dst + 64 * cols, back = tile + 64 * cols;
    new Float32Array(memory.buffer, dst, 16 * cols).set(rows);
    wasm.tileFromRows!(dst, cols, tile);
    wasm.rowsFromTile!(tile, cols, back);
    const values = new Float32Array(memory.buffer, tile, 16 * cols);
    rows.forEach((value, i) => assert.is(values[16 * (i % cols) + Math.floor(i / cols)], value));
    assert.equal(new Float32Array(memory.buffer, back, 16 * cols), rows);
  }
});

test('to half: nearest, ties to even, saturating', () => {
  // Coding f16 of one plane's parameters runs the conversion: s and z of a tile.
  const tile = dst, params = tile + 64 * 8, out = params + 128, scratch = out + 256;
  const values: number[] = [];
  for (let half = 0; half < 0x7c00; half += 7) {
    const value = halfToNumber(half), next = half < 0x7bff ? halfToNumber(half + 1) : value;
    values.push(value, (value + next) / 2, Math.fround((value + next) / 2 * (1 + 2 ** -20)), Math.fround((value + next) / 2 * (1 - 2 ** -20)), -value);
  }
  values.push(65504, 65519, 65520, 1e30, -1e30, 1e-8, 3e-8, -2.9802322387695312e-8);
  for (let i = 0; i < values.length; i += 32) {
    const chunk = new Float32Array(memory.buffer, params, 32);
    chunk.fill(0);
    chunk.set(values.slice(i, i + 32));
    const inputs = chunk.slice();
    wasm.planesFromTile!(tile, 8, 1, 8, 2, params, 0, out, scratch);
    const halves = new Uint16Array(memory.buffer, out + 16, 32);
    inputs.forEach((value, k) => assert.is(halves[k], numberToHalf(value), `${value}`));
  }
});

test.run();

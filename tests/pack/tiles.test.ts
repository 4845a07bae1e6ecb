import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { partBorders, type PartFormat } from '../../src/formats/packed.js';
import { NotFiniteError, Packers, type TilesJob } from '../../src/pack/packers.js';
import { decodeRows, halfToNumber, hlq, nearest, numberToHalf, roundEven } from '../assembly/reference.js';
import { bytesOf, floats } from '../formats/synthetic.js';

const packers = await Packers.create();
const { fround } = Math;
const shapes = [[1, 32], [17, 172], [16, 1], [3, 300]] as const;

interface Case { format: PartFormat; rows: number; cols: number; segmented: boolean; weights: Float32Array }

function job({ format, rows, cols, segmented, weights }: Case, more: Partial<TilesJob> = {}): TilesJob {
  return {
    encoding: 'f32', rows, cols, codes: bytesOf(weights), scales: null, phases: null, param: 0, factor: 1, format,
    borders: partBorders(cols, format, segmented), gamma: 1, ternaryScale: 1, keep: false, ...more,
  };
}

/** Packs, decodes by the document's definition, and checks that unpacking gives the same weights. */
function roundTrip(one: Case, more: Partial<TilesJob> = {}): { weights: Float64Array[]; rowScale: Float32Array } {
  const { format, rows, cols, segmented } = one, packed = packers.tiles(job(one, more));
  const rowScale = new Float32Array(packed.rowScale.buffer), borders = partBorders(cols, format, segmented);
  assert.is(packed.parts.length, borders.length - 1);
  assert.is(rowScale.length % 16, 0);
  assert.ok(rowScale.subarray(rows).every(scale => scale === 0), 'row scales are zero-padded');
  const weights = decodeRows(format, packed.parts, packed.rowScale, rows, cols, segmented);
  packed.parts.forEach((bytes, p) => {
    const part = { ...format, colBegin: borders[p]!, colEnd: borders[p + 1]!, tensor: '' }, width = part.colEnd - part.colBegin;
    const tiles = rowScale.length / 16, tileBytes = bytes.length / tiles;
    for (let t = 0; t < tiles; t++) {
      const tile = packers.unpackTile(part, bytes.subarray(t * tileBytes, (t + 1) * tileBytes), packed.rowScale.subarray(64 * t, 64 * t + 64));
      for (let r = 0; r < 16 && 16 * t + r < rows; r++) {
        for (let k = 0; k < width; k++) {
          const expected = weights[16 * t + r]![part.colBegin + k]!, actual = tile[16 * k + r]!;
          assert.ok(Math.abs(actual - expected) <= 4e-7 * (Math.abs(expected) + Math.abs(rowScale[16 * t + r]!)), `unpacked ${actual}, means ${expected}`);
        }
      }
    }
  });
  return { weights, rowScale };
}

const each = (format: PartFormat, check: (one: Case, name: string) => void) => {
  for (const [rows, cols] of shapes) {
    for (const segmented of [false, true]) {
      check({ format, rows, cols, segmented, weights: floats(rows * cols, rows + cols) }, `${rows} x ${cols}${segmented ? ', segmented' : ''}`);
    }
  }
};
const rowOf = ({ weights, cols }: Case, r: number) => weights.subarray(r * cols, (r + 1) * cols);

test('f32: the weights themselves', () => {
  each({ layout: 'f32', planes: 0, groupSize: 0, coding: 'none' }, (one, name) => {
    const { weights } = roundTrip(one);
    weights.forEach((row, r) => assert.equal(Float32Array.from(row), rowOf(one, r).slice(), name));
  });
});

test('int8: absmax / 127, ties to even', () => {
  each({ layout: 'int8', planes: 0, groupSize: 0, coding: 'none' }, (one, name) => {
    const { weights, rowScale } = roundTrip(one);
    weights.forEach((row, r) => {
      const w = rowOf(one, r), scale = fround(Math.max(...w.map(Math.abs)) / 127);
      assert.is(rowScale[r], scale, name);
      assert.equal(Array.from(row), Array.from(w, value => roundEven(fround(value / scale)) * scale), name);
    });
  });
  const weights = Float32Array.of(127, 0.5, 1.5, 2.5, -0.5, -1.5, -127, 0, 3.4999);
  const { weights: [row] } = roundTrip({ format: { layout: 'int8', planes: 0, groupSize: 0, coding: 'none' }, rows: 1, cols: 9, segmented: false, weights });
  assert.equal(Array.from(row!, value => value + 0), [127, 0, 2, 2, 0, -2, -127, 0, 3]);
});

test('int8 and planes of a zero row: zeros', () => {
  for (const format of [{ layout: 'int8', planes: 0, groupSize: 0, coding: 'none' }, { layout: 'planes', planes: 2, groupSize: 32, coding: 'i16' }] as PartFormat[]) {
    const { weights, rowScale } = roundTrip({ format, rows: 2, cols: 40, segmented: false, weights: new Float32Array(80) });
    assert.ok(rowScale.every(scale => scale === 0));
    assert.ok(weights.every(row => row.every(value => value === 0)));
  }
});

test('ternary: absmean rounding, ties to even', () => {
  for (const groupSize of [32, 64, 128]) {
    each({ layout: 'ternary', planes: 2, groupSize, coding: 'none' }, (one, name) => {
      const gamma = fround(0.31), { weights, rowScale } = roundTrip(one, { gamma, ternaryScale: gamma });
      weights.forEach((row, r) => {
        assert.is(rowScale[r], gamma);
        assert.equal(Array.from(row, v => v + 0), Array.from(rowOf(one, r), w => Math.max(-1, Math.min(1, roundEven(fround(w / gamma)))) * gamma + 0), name);
      });
    });
  }
  const { weights: [row] } = roundTrip({ format: { layout: 'ternary', planes: 2, groupSize: 32, coding: 'none' }, rows: 1, cols: 5, segmented: false, weights: Float32Array.of(0.5, -0.5, 0.51, -1.5, 9) });
  assert.equal(Array.from(row!, v => v + 0), [0, 0, 1, -1, 1]);
});

test('planes: stored parameters are the fitted ones, rounded; codes the nearest level to them', () => {
  for (const coding of ['f32', 'f16', 'i16'] as const) {
    for (const planes of [1, 2, 3, 4]) {
      for (const groupSize of [32, 64, 128]) {
        const format: PartFormat = { layout: 'planes', planes, groupSize, coding };
        each(format, (one, name) => {
          const { weights, rowScale } = roundTrip(one);
          for (let r = 0; r < one.rows; r++) checkRow(one, rowOf(one, r), weights[r]!, rowScale[r]!, `${coding}, ${planes} planes, groups of ${groupSize}, ${name}, row ${r}`);
        });
      }
    }
  }
});

function checkRow({ format: { planes, groupSize, coding } }: Case, w: Float32Array, decoded: Float64Array, scale: number, name: string): void {
  const groups = Array.from({ length: Math.ceil(w.length / groupSize) }, (_, g) => hlq(w.subarray(g * groupSize, (g + 1) * groupSize), planes));
  const middles = groups.map(params => params[planes]! + params.slice(0, planes).reduce((a, b) => a + b, 0) / 2);
  const largest = Math.max(...groups.flatMap((params, g) => [...params.slice(0, planes), middles[g]!].map(Math.abs)));
  if (coding === 'i16') assert.ok(Math.abs(scale - largest / 16383) <= 1e-4 * largest / 16383, `${name}: row scale ${scale}`);
  else assert.is(scale, 1, name);
  groups.forEach((params, g) => {
    const store = (value: number) => coding === 'f32' ? value : coding === 'f16' ? halfToNumber(numberToHalf(value)) : roundEven(value / scale) * scale;
    const s = Array.from(params.slice(0, planes), store), last = coding === 'i16' ? store(middles[g]!) - s.reduce((a, b) => a + b, 0) / 2 : store(params[planes]!);
    const levels = Array.from({ length: 2 ** planes }, (_, code) => s.reduce((sum, one, p) => sum + (code >> p & 1) * one, last));
    // The fit's own rounding may move a stored parameter by one step of its coding.
    const slack = planes * (coding === 'i16' ? 1.5 * scale : coding === 'f16' ? 2 ** -10 * largest : 0) + 2e-5 * largest;
    for (let k = g * groupSize; k < Math.min(w.length, (g + 1) * groupSize); k++) {
      const best = Math.abs(w[k]! - levels[nearest(w[k]!, levels)]!), actual = Math.abs(w[k]! - decoded[k]!);
      assert.ok(actual <= best + slack, `${name}, column ${k}: ${decoded[k]} for ${w[k]}, the nearest is off by ${best}`);
      assert.ok(levels.some(level => Math.abs(level - decoded[k]!) <= slack), `${name}, column ${k}: ${decoded[k]} is no level`);
    }
  });
}

test('uniform: codes and 6-bit parameters that somebody has chosen', () => {
  for (const planes of [1, 2, 3, 4]) {
    for (const groupSize of [32, 64, 128]) {
      for (const [rows, cols, segmented] of [[1, 32, false], [17, 172, true], [33, 1153, true], [16, 20 * groupSize, false]] as const) {
        const format: PartFormat = { layout: 'uniform', planes, groupSize, coding: 'i6' }, groups = Math.ceil(cols / groupSize);
        const ints = (n: number, below: number, from = 0) => Array.from(floats(n, n + below), value => Math.abs(Math.floor(1e4 * value)) % below + from);
        const codes = Uint8Array.from(ints(rows * cols, 2 ** planes)), scales = Uint8Array.from(ints(rows * groups, 64)), centres = Int8Array.from(ints(rows * groups, 64, -32));
        const rowScales = Uint16Array.from({ length: 2 * rows }, (_, i) => 0x2400 + 37 * i), borders = partBorders(cols, format, segmented);
        const packed = packers.codedTiles({ rows, cols, format, borders, codes, scales, centres, rowScales });
        const weights = decodeRows(format, packed.parts, packed.rowScale, rows, cols, segmented), name = `${planes} planes, groups of ${groupSize}, ${rows} x ${cols}`;
        const exact = (r: number, k: number) => {
          const g = r * groups + Math.floor(k / groupSize);
          return halfToNumber(rowScales[2 * r]!) * scales[g]! * (codes[r * cols + k]! - (2 ** planes - 1) / 2) + halfToNumber(rowScales[2 * r + 1]!) * centres[g]!;
        };
        weights.forEach((row, r) => assert.ok(row.every((w, k) => w === exact(r, k)), `${name}: row ${r}`));
        packed.parts.forEach((bytes, p) => {
          const part = { ...format, colBegin: borders[p]!, colEnd: borders[p + 1]!, tensor: '' }, size = bytes.length / Math.ceil(rows / 16);
          assert.is(size % 32, 0);
          for (let t = 0; 16 * t < rows; t++) {
            const tile = packers.unpackTile(part, bytes.subarray(t * size, (t + 1) * size), packed.rowScale.subarray(64 * t, 64 * t + 64));
            for (let r = 16 * t; r < Math.min(rows, 16 * t + 16); r++) {
              for (let k = part.colBegin; k < part.colEnd; k++) assert.is(tile[16 * (k - part.colBegin) + r % 16], fround(exact(r, k)), `${name}: unpacked`);
            }
          }
        });
      }
    }
  }
});

test('a factor scales the weights; a weight that is not finite is refused', () => {
  const format: PartFormat = { layout: 'f32', planes: 0, groupSize: 0, coding: 'none' };
  const one = { format, rows: 3, cols: 5, segmented: false, weights: floats(15, 3) };
  const { weights } = roundTrip(one, { factor: 0.5 });
  assert.equal(Float32Array.from(weights[2]!), rowOf(one, 2).map(value => value / 2));
  for (const bad of [NaN, Infinity, -Infinity]) {
    for (const at of [0, 7, 14]) {
      const spoilt = one.weights.slice();
      spoilt[at] = bad;
      assert.throws(() => packers.tiles(job({ ...one, weights: spoilt })), (error: unknown) => error instanceof NotFiniteError);
    }
  }
});

test.run();

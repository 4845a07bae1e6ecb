/** Plain counterparts of the packers, from docs/format.md and docs/quantisation.md; never optimised. */
import { partBorders, tileBytes, type PartFormat } from '../../src/formats/packed.js';

const { fround } = Math;

/** IEEE half -> number. */
export function halfToNumber(half: number): number {
  const exponent = half >> 10 & 31, fraction = half & 1023, sign = half & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** Nearest half, by search among all of them; ties to even. */
export function numberToHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0, magnitude = Math.abs(value);
  let low = 0, high = 0x7bff;
  while (low < high) {
    const middle = low + high + 1 >> 1;
    if (halfToNumber(middle) <= magnitude) low = middle;
    else high = middle - 1;
  }
  if (low === 0x7bff) return sign | low;
  const below = magnitude - halfToNumber(low), above = halfToNumber(low + 1) - magnitude;
  return sign | (above < below || (above === below && low % 2 === 1) ? low + 1 : low);
}

export function roundEven(value: number): number {
  const floor = Math.floor(value), rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

const bit = (code: number, p: number) => code >> p & 1;

/** Gaussian elimination with a ridge, refined: the minimum-norm solution to about 1e-9 where A is singular. */
function solve(a: number[][], b: number[]): number[] {
  const n = b.length, ridge = 1e-7, x = new Array<number>(n).fill(0);
  for (let pass = 0; pass < 4; pass++) {
    const rest = b.map((value, i) => value - a[i]!.reduce((sum, v, j) => sum + v * x[j]!, 0));
    const m = a.map((row, i) => [...row.map((v, j) => v + (i === j ? ridge : 0)), rest[i]!]);
    for (let i = 0; i < n; i++) {
      const pivot = m.slice(i).reduce((best, row, k) => Math.abs(row[i]!) > Math.abs(m[best]![i]!) ? i + k : best, i);
      [m[i], m[pivot]] = [m[pivot]!, m[i]!];
      for (let r = 0; r < n; r++) {
        if (r === i) continue;
        const factor = m[r]![i]! / m[i]![i]!;
        for (let c = i; c <= n; c++) m[r]![c]! -= factor * m[i]![c]!;
      }
    }
    for (let i = 0; i < n; i++) x[i]! += m[i]![n]! / m[i]![i]!;
  }
  return x;
}

/** s_0 … s_{P-1}, z of one group. */
export function hlq(w: Float32Array, planes: number): Float32Array {
  const low = Math.min(...w), high = Math.max(...w), step = fround(fround(high - low) / (2 ** planes - 1));
  let params = Float32Array.from({ length: planes + 1 }, (_, p) => p < planes ? step * 2 ** p : low);
  let codes: number[] = [];
  for (let round = 0; round < 10; round++) {
    const levels = Array.from({ length: 2 ** planes }, (_, code) => {
      let level = params[planes]!;
      for (let p = 0; p < planes; p++) if (bit(code, p)) level = fround(level + params[p]!);
      return level;
    });
    const next = Array.from(w, value => nearest(value, levels));
    if (next.join() === codes.join()) break;
    codes = next;
    const columns = Array.from({ length: planes + 1 }, (_, p) => codes.map(code => p < planes ? bit(code, p) : 1));
    const a = columns.map(x => columns.map(y => x.reduce((sum, v, k) => sum + v * y[k]!, 0)));
    const b = columns.map(x => x.reduce((sum, v, k) => fround(sum + (v ? w[k]! : 0)), 0));
    params = Float32Array.from(solve(a, b));
  }
  return params;
}

/** Index of the nearest level in f32; ties: the first. */
export function nearest(value: number, levels: number[]): number {
  let best = 0;
  levels.forEach((level, i) => { if (Math.abs(fround(value - level)) < Math.abs(fround(value - levels[best]!))) best = i; });
  return best;
}

/** Byte of a plane that belongs to each row: the inverse of ROW(b) = (b >> 1) + 8 (b & 1). */
const byteOfRow = Array.from({ length: 16 }, (_, r) => [...Array(16).keys()].find(b => (b >> 1) + 8 * (b & 1) === r)!);

/** Packed parts -> rows in double precision, straight from docs/format.md. */
export function decodeRows(format: PartFormat, parts: Uint8Array[], rowScale: Float32Array, rows: number, cols: number, segmented: boolean): Float64Array[] {
  const borders = partBorders(cols, format.groupSize, segmented);
  return Array.from({ length: rows }, (_, row) => {
    const weights = new Float64Array(cols);
    parts.forEach((part, p) => {
      const width = borders[p + 1]! - borders[p]!, bytes = tileBytes(format, width);
      const tile = part.subarray((row >> 4) * bytes, ((row >> 4) + 1) * bytes);
      for (let c = 0; c < width; c++) weights[borders[p]! + c] = rowScale[row]! * weight(format, new DataView(tile.buffer, tile.byteOffset, bytes), row % 16, c);
    });
    return weights;
  });
}

/** Row r and column c of a tile, without the row scale. */
function weight({ layout, planes, groupSize, coding }: PartFormat, tile: DataView, r: number, c: number): number {
  if (layout === 'f32') return tile.getFloat32(64 * c + 4 * r, true);
  if (layout === 'int8') return tile.getInt8(32 * (c >> 1) + 2 * r + (c & 1));
  const width = { none: 0, f32: 4, f16: 2, i16: 2 }[coding], nParams = layout === 'planes' ? planes + 1 : 1;
  const codeBytes = groupSize / 8 * planes * 16, group = Math.floor(c / groupSize) * (codeBytes + 16 * nParams * width), k = c % groupSize;
  const bitOf = (plane: number) => tile.getUint8(group + ((k >> 3) * planes + plane) * 16 + byteOfRow[r]!) >> (k & 7) & 1;
  const param = (i: number) => {
    const at = group + codeBytes + (16 * i + r) * width;
    return coding === 'f32' ? tile.getFloat32(at, true) : coding === 'f16' ? halfToNumber(tile.getUint16(at, true)) : tile.getInt16(at, true);
  };
  if (layout === 'ternary') return (bitOf(0) - bitOf(1)) * (coding === 'none' ? 1 : param(0));
  let sum = param(planes);
  for (let p = 0; p < planes; p++) sum += param(p) * (coding === 'i16' ? bitOf(p) - 0.5 : bitOf(p));
  return sum;
}

/** Plain counterparts of the packers, from docs/format.md and docs/quantisation.md; never optimised. */
import { partBorders, tileBytes, type PartFormat } from '../../src/formats/packed.js';
import { BLOCK_PARAM_BYTES, GROUP_PARAM_BYTES, VALUE_BYTES } from '../../src/generated/layout.js';

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

/** Packed parts -> rows in double precision, straight from docs/format.md. `rowScale`: the bytes of its tensor. */
export function decodeRows(format: PartFormat, parts: Uint8Array[], rowScale: Uint8Array, rows: number, cols: number, segmented: boolean): Float64Array[] {
  const borders = partBorders(cols, format, segmented), scales = new DataView(rowScale.buffer, rowScale.byteOffset);
  return Array.from({ length: rows }, (_, row) => {
    const weights = new Float64Array(cols), t = row >> 4, r = row % 16;
    const scale = format.coding === 'i6' ? 1 : scales.getFloat32(4 * row, true);
    const halves = (i: number) => halfToNumber(scales.getUint16(64 * t + 2 * (16 * i + r), true));
    parts.forEach((part, p) => {
      const width = borders[p + 1]! - borders[p]!, bytes = tileBytes(format, width);
      const tile = part.subarray(t * bytes, (t + 1) * bytes);
      for (let c = 0; c < width; c++) weights[borders[p]! + c] = scale * weight(format, new DataView(tile.buffer, tile.byteOffset, bytes), r, c, halves);
    });
    return weights;
  });
}

/** Row r and column c of a tile, without the row scale. `rowHalves`: those of coding 'i6'. */
function weight(format: PartFormat, tile: DataView, r: number, c: number, rowHalves: (i: number) => number): number {
  const { layout, planes, groupSize, coding } = format;
  if (layout === 'f32') return tile.getFloat32(64 * c + 4 * r, true);
  if (layout === 'uniform') return uniformWeight(format, tile, r, c, rowHalves);
  const width = VALUE_BYTES[coding], group = groupSize ? Math.floor(c / groupSize) : 0, k = groupSize ? c % groupSize : c;
  const nParams = layout === 'planes' ? planes + 1 : 1, codeBytes = layout === 'int8' ? 16 * groupSize : groupSize / 8 * planes * 16;
  const at = group * (codeBytes + 16 * nParams * width);
  const param = (i: number) => {
    const place = at + codeBytes + (16 * i + r) * width;
    return coding === 'f32' ? tile.getFloat32(place, true) : coding === 'f16' ? halfToNumber(tile.getUint16(place, true)) : tile.getInt16(place, true);
  };
  if (layout === 'int8') return tile.getInt8(at + 32 * (k >> 1) + 2 * r + (k & 1)) * (groupSize ? param(0) : 1);
  const bitOf = (plane: number) => tile.getUint8(at + ((k >> 3) * planes + plane) * 16 + byteOfRow[r]!) >> (k & 7) & 1;
  if (layout === 'ternary') return (bitOf(0) - bitOf(1)) * (coding === 'none' ? 1 : param(0));
  let sum = param(planes);
  for (let p = 0; p < planes; p++) sum += param(p) * (coding === 'i16' ? bitOf(p) - 0.5 : bitOf(p));
  return sum;
}

function uniformWeight({ planes, groupSize, coding }: PartFormat, tile: DataView, r: number, c: number, rowHalves: (i: number) => number): number {
  const codeBytes = groupSize / 8 * planes * 16, groupBytes = codeBytes + GROUP_PARAM_BYTES[coding], k = c % groupSize;
  const block = Math.floor(c / 256), at = Math.floor(c / groupSize) * groupBytes + (BLOCK_PARAM_BYTES[coding] ? block * BLOCK_PARAM_BYTES[coding] : 0);
  let q = 0;
  for (let p = 0; p < planes; p++) q += (tile.getUint8(at + ((k >> 3) * planes + p) * 16 + byteOfRow[r]!) >> (k & 7) & 1) << p;
  const params = at + codeBytes, half = (place: number) => halfToNumber(tile.getUint16(place, true)), byte = tile.getUint8(params + r);
  const blockHalf = (i: number) => half(256 / groupSize * groupBytes * (block + 1) + block * BLOCK_PARAM_BYTES[coding] + 32 * i + 2 * r);
  const second = byte >> 6 << 4 | tile.getUint8(params + 16 + r % 8) >> (r < 8 ? 0 : 4) & 15;
  switch (coding) {
    case 'f32': return tile.getFloat32(params + 4 * r, true) * q + tile.getFloat32(params + 64 + 4 * r, true);
    case 'f16': return half(params + 2 * r) * q + half(params + 32 + 2 * r);
    case 'f16mid': return half(params + 2 * r) * (q - 2 ** (planes - 1));
    case 'i6': return rowHalves(0) * (byte & 63) * (q - (2 ** planes - 1) / 2) + rowHalves(1) * (second - 32);
    case 'k4': return blockHalf(0) * (byte & 15) * q - blockHalf(1) * (byte >> 4);
    case 'k6': return blockHalf(0) * (byte & 63) * q - blockHalf(1) * second;
    case 'k8': return blockHalf(0) * tile.getInt8(params + r) * (q - 2 ** (planes - 1));
    default: throw new Error(coding);
  }
}

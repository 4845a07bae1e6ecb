/**
 * Tiles of weights that come as codes, without a change: the codes' bits become planes, scales and zeros stay what they are.
 * Source, 16 rows (see gguf.ts): codes u8[16][cols], params f32[16][groups][2] = s, z. Columns [begin, end) go to `dst`;
 * both are borders of groups of 32 or more columns.
 */
import { Coding_f16, TILE_ROWS } from './generated/layout';
import { f16FromF32 } from './float16';

/** Place of row r in a plane's 16 bytes (see octet.ts). */
// @ts-ignore: decorator
@inline
function placeOf(r: i32): usize { return <usize>(((r & 7) << 1) + (r >> 3)); }

/** Layout 'planes': s_p = s * 2^p and z. */
export function planesFromCodes(codes: usize, params: usize, cols: i32, begin: i32, end: i32, planes: i32, groupSize: i32, coding: i32, dst: usize): void {
  const octet = <usize>planes << 4;
  const rowParams = <usize>(cols / groupSize) << 3;
  for (let k = begin; k < end; k += groupSize) {
    for (let o = k; o < k + groupSize; o += 16, dst += 2 * octet) {
      for (let r = 0; r < TILE_ROWS; r++) {
        const q = v128.load(codes + <usize>(r * cols + o));
        for (let p = 0; p < planes; p++) {
          const bits = i8x16.bitmask(i8x16.shl(q, 7 - p)), at = dst + (<usize>p << 4) + placeOf(r);
          store<u8>(at, <u8>bits);
          store<u8>(at + octet, <u8>(bits >> 8));
        }
      }
    }
    const group = params + (<usize>(k / groupSize) << 3);
    for (let p = 0; p <= planes; p++) {
      for (let r = 0; r < TILE_ROWS; r++) {
        const pair = group + <usize>r * rowParams;
        dst = storeValue(p < planes ? load<f32>(pair) * <f32>(1 << p) : load<f32>(pair, 4), coding, dst);
      }
    }
  }
}

/** Layout 'ternary' with a scale for every group: codes 0, 1, 2 are -1, 0, 1. `sourceGroup`: columns that share a pair of params. */
export function ternaryFromCodes(codes: usize, params: usize, cols: i32, sourceGroup: i32, begin: i32, end: i32, groupSize: i32, coding: i32, dst: usize): void {
  const rowParams = <usize>(cols / sourceGroup) << 3;
  for (let k = begin; k < end; k += groupSize) {
    for (let o = k; o < k + groupSize; o += 16, dst += 64) {
      for (let r = 0; r < TILE_ROWS; r++) {
        const q = v128.load(codes + <usize>(r * cols + o)), at = dst + placeOf(r);
        const plus = i8x16.bitmask(i8x16.shl(q, 6)), minus = i8x16.bitmask(i8x16.eq(q, i8x16.splat(0)));
        store<u8>(at, <u8>plus);
        store<u8>(at, <u8>minus, 16);
        store<u8>(at, <u8>(plus >> 8), 32);
        store<u8>(at, <u8>(minus >> 8), 48);
      }
    }
    const group = params + (<usize>(k / sourceGroup) << 3);
    for (let r = 0; r < TILE_ROWS; r++) dst = storeValue(load<f32>(group + <usize>r * rowParams), coding, dst);
  }
}

/** Returns where the next value goes. */
// @ts-ignore: decorator
@inline
function storeValue(value: f32, coding: i32, dst: usize): usize {
  if (coding == Coding_f16) {
    store<u16>(dst, <u16>f16FromF32(value));
    return dst + 2;
  }
  store<f32>(dst, value);
  return dst + 4;
}

/**
 * Whether halves hold s * 2^p for all planes, and z, of `count` pairs. s and z are halves or small multiples of one already,
 * so only their size matters.
 */
export function fitHalves(params: usize, count: i32, planes: i32): bool {
  const factors = f32x4.replace_lane(f32x4.splat(1), 0, <f32>(1 << (planes - 1)));
  let largest = f32x4.splat(0);
  for (const end = params + (<usize>count << 3); params < end; params += 8) {
    largest = f32x4.max(largest, f32x4.abs(f32x4.mul(v128.load64_zero(params), factors)));
  }
  return i32x4.all_true(f32x4.le(largest, f32x4.splat(65504)));
}

/**
 * Tiles of other layouts than 'uniform' for weights that come as codes, without a change.
 * Source, 16 rows (see gguf.ts): codes u8[16][cols], params f32[16][groups][2] = s, z. Columns [begin, end) go to `dst`;
 * both are borders of groups.
 */
import { Coding_f16, Coding_none, TILE_ROWS } from './generated/layout';
import { f16FromF32 } from './float16';

/** Layout 'int8' with a half for every group: s. The codes are 128 too high. */
export function int8FromCodes(codes: usize, params: usize, cols: i32, begin: i32, end: i32, groupSize: i32, dst: usize): void {
  const rowParams = <usize>(cols / groupSize) << 3;
  for (let k = begin; k < end; k += groupSize) {
    for (let j = k; j < k + groupSize; j += 16) {
      for (let r = 0; r < TILE_ROWS; r++) {
        const q = v128.xor(v128.load(codes + <usize>(r * cols + j)), i8x16.splat(-128)), at = dst + <usize>(r << 1);
        v128.store16_lane(at, q, 0);
        v128.store16_lane(at, q, 1, 32);
        v128.store16_lane(at, q, 2, 64);
        v128.store16_lane(at, q, 3, 96);
        v128.store16_lane(at, q, 4, 128);
        v128.store16_lane(at, q, 5, 160);
        v128.store16_lane(at, q, 6, 192);
        v128.store16_lane(at, q, 7, 224);
      }
      dst += 256;
    }
    const group = params + (<usize>(k / groupSize) << 3);
    for (let r = 0; r < TILE_ROWS; r++) dst = storeValue(load<f32>(group + <usize>r * rowParams), Coding_f16, dst);
  }
}

/** Rows whose scales differ in nothing but their sign, or are 0: codes as if all had the positive one. */
export function alikeTrits(codes: usize, params: usize, cols: i32, sourceGroup: i32): void {
  for (let k = 0; k < cols; k += sourceGroup, params += 8) {
    const s = load<f32>(params);
    for (const end = codes + <usize>sourceGroup; codes < end; codes += 16) {
      if (s == 0) v128.store(codes, i8x16.splat(1));
      else if (s < 0) v128.store(codes, i8x16.sub(i8x16.splat(2), v128.load(codes)));
    }
  }
}

/** Of 16 codes 0, 1, 2: a bit for each 2, and above those a bit for each 0. */
// @ts-ignore: decorator
@inline
function signs(codes: usize): u32 {
  const q = v128.load(codes);
  return i8x16.bitmask(i8x16.eq(q, i8x16.splat(2))) | i8x16.bitmask(i8x16.eq(q, i8x16.splat(0))) << 16;
}

/** Layout 'ternary', with a scale for every group or none: codes 0, 1, 2 are -1, 0, 1. `sourceGroup`: columns that share a pair of params. */
export function ternaryFromCodes(codes: usize, params: usize, cols: i32, sourceGroup: i32, begin: i32, end: i32, groupSize: i32, coding: i32, dst: usize): void {
  const rowParams = <usize>(cols / sourceGroup) << 3;
  for (let k = begin; k < end; k += groupSize) {
    for (let o = k; o < k + groupSize; o += 16, dst += 64) {
      // Rows as octets order them, four bytes each; then first bytes, third bytes, second, fourth.
      for (let row = codes + <usize>o, at = dst; at < dst + 64; row += cols, at += 8) {
        store<u32>(at, signs(row));
        store<u32>(at, signs(row + <usize>(cols << 3)), 4);
      }
      const a = v128.load(dst), b = v128.load(dst, 16), c = v128.load(dst, 32), d = v128.load(dst, 48);
      const evenAB = v128.shuffle<i8>(a, b, 0, 4, 8, 12, 16, 20, 24, 28, 2, 6, 10, 14, 18, 22, 26, 30);
      const evenCD = v128.shuffle<i8>(c, d, 0, 4, 8, 12, 16, 20, 24, 28, 2, 6, 10, 14, 18, 22, 26, 30);
      const oddAB = v128.shuffle<i8>(a, b, 1, 5, 9, 13, 17, 21, 25, 29, 3, 7, 11, 15, 19, 23, 27, 31);
      const oddCD = v128.shuffle<i8>(c, d, 1, 5, 9, 13, 17, 21, 25, 29, 3, 7, 11, 15, 19, 23, 27, 31);
      v128.store(dst, v128.shuffle<i64>(evenAB, evenCD, 0, 2));
      v128.store(dst, v128.shuffle<i64>(evenAB, evenCD, 1, 3), 16);
      v128.store(dst, v128.shuffle<i64>(oddAB, oddCD, 0, 2), 32);
      v128.store(dst, v128.shuffle<i64>(oddAB, oddCD, 1, 3), 48);
    }
    const group = params + (<usize>(k / sourceGroup) << 3);
    for (let r = 0; r < TILE_ROWS; r++) dst = storeValue(load<f32>(group + <usize>r * rowParams), coding, dst);
  }
}

/** Returns where the next value goes. */
// @ts-ignore: decorator
@inline
function storeValue(value: f32, coding: i32, dst: usize): usize {
  if (coding == Coding_none) return dst;
  if (coding == Coding_f16) {
    store<u16>(dst, <u16>f16FromF32(value));
    return dst + 2;
  }
  store<f32>(dst, value);
  return dst + 4;
}

/** Layouts 'f32' and 'int8'. */
import { TILE_ROWS } from './generated/layout';
import { f16ToF32 } from './float16';
import { rowAbsMax } from './tile';

export function f32FromTile(tile: usize, cols: i32, dst: usize): void { memory.copy(dst, tile, <usize>cols << 6); }

/** The row scale is folded in; it is 1 in every file, but a reader need not know. */
export function tileFromF32(src: usize, cols: i32, rowScale: usize, tile: usize): void {
  for (let i: usize = 0, n = <usize>cols << 6; i < n; i += 16) {
    v128.store(tile + i, f32x4.mul(v128.load(src + i), v128.load(rowScale + (i & 63))));
  }
}

/** max|w| / 127 of each row, f32[16]. */
export function int8RowScale(tile: usize, cols: i32, rowScale: usize): void {
  rowAbsMax(tile, cols, rowScale);
  for (let q: usize = 0; q < 64; q += 16) v128.store(rowScale + q, f32x4.div(v128.load(rowScale + q), f32x4.splat(127)));
}

/** round(w / rowScale) of four rows, ties to even, within ±127; 0 where the scale is 0. */
// @ts-ignore: decorator
@inline
function quantise(w: v128, scale: v128): v128 {
  const ratio = v128.and(f32x4.div(w, scale), f32x4.ne(scale, f32x4.splat(0)));
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.max(f32x4.min(ratio, f32x4.splat(127)), f32x4.splat(-127))));
}

/** A column of 16 codes. */
// @ts-ignore: decorator
@inline
function column(tile: usize, rowScale: usize): v128 {
  return i8x16.narrow_i16x8_s(
    i16x8.narrow_i32x4_s(quantise(v128.load(tile), v128.load(rowScale)), quantise(v128.load(tile, 16), v128.load(rowScale, 16))),
    i16x8.narrow_i32x4_s(quantise(v128.load(tile, 32), v128.load(rowScale, 32)), quantise(v128.load(tile, 48), v128.load(rowScale, 48))));
}

/** dst: per pair of columns 32 bytes, byte 2r + i = row r, column 2j + i; an odd last column is paired with zeros. */
export function int8FromTile(tile: usize, cols: i32, rowScale: usize, dst: usize): void {
  for (let k = 0; k < cols; k += 2, tile += 128, dst += 32) {
    const even = column(tile, rowScale);
    const odd = k + 1 < cols ? column(tile + 64, rowScale) : i8x16.splat(0);
    v128.store(dst, v128.shuffle<i8>(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
    v128.store(dst, v128.shuffle<i8>(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), 16);
  }
}

/** groupSize 0: no scales but the rows'; otherwise 16 halves follow each group. */
export function tileFromInt8(src: usize, cols: i32, groupSize: i32, rowScale: usize, tile: usize): void {
  for (let begin = 0, size = groupSize ? groupSize : cols; begin < cols; begin += size, src += <usize>((size + 2) * TILE_ROWS)) {
    for (let r = 0; r < TILE_ROWS; r++) {
      let scale = load<f32>(rowScale + (<usize>r << 2));
      if (groupSize) scale *= f16ToF32(load<u16>(src + <usize>(size * TILE_ROWS + 2 * r)));
      for (let i = 0, n = min(size, cols - begin); i < n; i++) {
        const code = load<i8>(src + <usize>((i >> 1) * 32 + 2 * r + (i & 1)));
        store<f32>(tile + (<usize>((begin + i) * TILE_ROWS + r) << 2), <f32>code * scale);
      }
    }
  }
}

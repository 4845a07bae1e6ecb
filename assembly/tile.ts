/**
 * The working form of a packer: an f32 tile, for each column 16 values, one a row (f32[cols][16]). It is also the
 * packed layout 'f32'. A column range of a tile is a contiguous range of bytes.
 */
import { TILE_ROWS } from './generated/layout';

/** f32[16][cols] -> tile. Rows that do not exist are zero in `rows` already. */
export function tileFromRows(rows: usize, cols: i32, tile: usize): void {
  const stride = <usize>cols << 2;
  for (let r = 0; r < TILE_ROWS; r += 4) {
    const a = rows + <usize>r * stride, b = a + stride, c = b + stride, d = c + stride;
    let k: usize = 0;
    let to = tile + (<usize>r << 2);
    for (const end = stride & ~15; k < end; k += 16, to += 256) {
      const va = v128.load(a + k), vb = v128.load(b + k), vc = v128.load(c + k), vd = v128.load(d + k);
      const ab = v128.shuffle<i32>(va, vb, 0, 4, 1, 5), cd = v128.shuffle<i32>(vc, vd, 0, 4, 1, 5);
      const AB = v128.shuffle<i32>(va, vb, 2, 6, 3, 7), CD = v128.shuffle<i32>(vc, vd, 2, 6, 3, 7);
      v128.store(to, v128.shuffle<i64>(ab, cd, 0, 2));
      v128.store(to, v128.shuffle<i64>(ab, cd, 1, 3), 64);
      v128.store(to, v128.shuffle<i64>(AB, CD, 0, 2), 128);
      v128.store(to, v128.shuffle<i64>(AB, CD, 1, 3), 192);
    }
    for (; k < stride; k += 4, to += 64) {
      store<f32>(to, load<f32>(a + k));
      store<f32>(to, load<f32>(b + k), 4);
      store<f32>(to, load<f32>(c + k), 8);
      store<f32>(to, load<f32>(d + k), 12);
    }
  }
}

/** tile -> f32[16][cols]. */
export function rowsFromTile(tile: usize, cols: i32, rows: usize): void {
  for (let r = 0; r < TILE_ROWS; r++) {
    for (let k = 0; k < cols; k++) {
      store<f32>(rows + (<usize>(r * cols + k) << 2), load<f32>(tile + (<usize>(k * TILE_ROWS + r) << 2)));
    }
  }
}

/** Multiplies `count` values (a multiple of 4) by `factor`. */
export function scaleRows(values: usize, count: i32, factor: f32): void {
  const factor4 = f32x4.splat(factor);
  for (const end = values + (<usize>count << 2); values < end; values += 16) {
    v128.store(values, f32x4.mul(v128.load(values), factor4));
  }
}

/** Whether none of `count` values (a multiple of 4) is NaN or infinite. */
export function allFinite(values: usize, count: i32): bool {
  let finite = i32x4.splat(-1);
  for (const end = values + (<usize>count << 2); values < end; values += 16) {
    const v = v128.load(values);
    const difference = f32x4.sub(v, v); // NaN for what is not finite
    finite = v128.and(finite, f32x4.eq(difference, difference));
  }
  return i32x4.all_true(finite);
}

/** Sum of |value|, f64, in the order of the values. */
export function sumAbs(values: usize, count: i32): f64 {
  let sum: f64 = 0;
  for (const end = values + (<usize>count << 2); values < end; values += 4) sum += <f64>abs(load<f32>(values));
  return sum;
}

/** Largest |value| of each of the 16 rows, f32[16] at `out`. */
export function rowAbsMax(tile: usize, cols: i32, out: usize): void {
  for (let q: usize = 0; q < 64; q += 16) {
    let largest = f32x4.splat(0);
    for (let p = tile + q, end = p + (<usize>cols << 6); p < end; p += 64) largest = f32x4.max(largest, f32x4.abs(v128.load(p)));
    v128.store(out + q, largest);
  }
}

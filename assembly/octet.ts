/** Bit planes of 8 columns x 16 rows, as 'planes' and 'ternary' store them: 16 bytes a plane. */

/** Byte b of a plane belongs to row (b >> 1) + 8 (b & 1). */
// @ts-ignore: decorator
@inline
export function byteOrder(rows: v128): v128 {
  return v128.shuffle<i8>(rows, rows, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
}

/** Place of row r in a plane's 16 bytes. */
// @ts-ignore: decorator
@inline
export function placeOf(r: i32): usize { return <usize>(((r & 7) << 1) + (r >> 3)); }

/** The bit of row r and column i in a plane at `plane`. */
// @ts-ignore: decorator
@inline
export function bitAt(plane: usize, r: i32, i: i32): i32 {
  return (<i32>load<u8>(plane + placeOf(r)) >> i) & 1;
}

/** Four vectors of 4 small codes -> 16 bytes in row order. */
// @ts-ignore: decorator
@inline
export function bytesOf(a: v128, b: v128, c: v128, d: v128): v128 {
  return i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d));
}

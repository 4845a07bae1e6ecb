/**
 * Source formats -> f32 rows. One function per encoding, all with the same signature, so that the table in
 * src/pack/encodings.ts is all that names them:
 *
 *   src    codes of one row
 *   scales scales of that row, for encodings that keep them apart
 *   dst    f32[cols]
 *   phase  what the decoder must know of the row's place in the matrix (see each function)
 *   param  a constant of the encoding, such as its group size
 */
import { f16x4ToF32, f16ToF32 } from './float16';

export function rowFromF32(src: usize, scales: usize, dst: usize, cols: i32, phase: i32, param: i32): void {
  memory.copy(dst, src, <usize>cols << 2);
}

export function rowFromF16(src: usize, scales: usize, dst: usize, cols: i32, phase: i32, param: i32): void {
  let i = 0;
  for (; i + 4 <= cols; i += 4) v128.store(dst + (<usize>i << 2), f16x4ToF32(v128.load_ext<u16>(src + (<usize>i << 1))));
  for (; i < cols; i++) store<f32>(dst + (<usize>i << 2), f16ToF32(load<u16>(src + (<usize>i << 1))));
}

export function rowFromBf16(src: usize, scales: usize, dst: usize, cols: i32, phase: i32, param: i32): void {
  let i = 0;
  for (; i + 4 <= cols; i += 4) {
    v128.store(dst + (<usize>i << 2), i32x4.shl(v128.load_ext<u16>(src + (<usize>i << 1)), 16));
  }
  for (; i < cols; i++) store<u32>(dst + (<usize>i << 2), <u32>load<u16>(src + (<usize>i << 1)) << 16);
}

/**
 * llama2.c's Q8_0: int8 codes, one f32 scale for `param` consecutive elements of the whole matrix. A row may begin
 * inside a group: `phase` elements of the first scale's group lie before it.
 */
export function rowFromQ8(src: usize, scales: usize, dst: usize, cols: i32, phase: i32, param: i32): void {
  let end = param - phase;
  for (let i = 0; i < cols; end += param, scales += 4) {
    const stop = min(end, cols);
    const scale = load<f32>(scales);
    const scale4 = f32x4.splat(scale);
    for (; i + 4 <= stop; i += 4) {
      const codes = i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(src + <usize>i)));
      v128.store(dst + (<usize>i << 2), f32x4.mul(f32x4.convert_i32x4_s(codes), scale4));
    }
    for (; i < stop; i++) store<f32>(dst + (<usize>i << 2), <f32>load<i8>(src + <usize>i) * scale);
  }
}

/**
 * Hugging Face's BitNet packing: 2-bit fields q = t + 1, the field at bit `phase` of each byte. Trits become -1, 0, 1;
 * q = 3 means nothing and becomes NaN, which the check for finite weights reports.
 */
export function rowFromTernary2(src: usize, scales: usize, dst: usize, cols: i32, phase: i32, param: i32): void {
  for (let i = 0; i < cols; i++) {
    const q = (<i32>load<u8>(src + <usize>i) >> phase) & 3;
    store<f32>(dst + (<usize>i << 2), q == 3 ? f32.NaN : <f32>(q - 1));
  }
}

/**
 * bitnet.cpp's I2_S: 2-bit fields q = t + 1, 128 in 32 bytes; byte j of a block holds columns j, j + 32, j + 64, j + 96, the
 * first in its highest bits. Trits as above.
 */
export function rowFromI2S(src: usize, scales: usize, dst: usize, cols: i32, phase: i32, param: i32): void {
  for (let i = 0; i < cols; i++) {
    const q = (<i32>load<u8>(src + <usize>(((i >> 7) << 5) + (i & 31))) >> (6 - ((i >> 4) & 6))) & 3;
    store<f32>(dst + (<usize>i << 2), q == 3 ? f32.NaN : <f32>(q - 1));
  }
}

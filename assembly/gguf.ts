/**
 * GGUF's quantised types. Each splits a row of blocks into small codes, u8[cols], and the parameters of groups of columns:
 *
 *   w = s * q + z      pairs: f32[groups][2] = s, z
 *
 * or, for the K types, whose scales are small integers times halves of a block, these as they are (`small`: see uniform.ts).
 * s and z are the f32 products of the block's own numbers, which are exact, so that w, rounded once, is what the type's
 * definition gives in f32. The group sizes are in src/pack/encodings.ts.
 */
import { f16ToF32 } from './float16';
import { SMALL_BYTES } from './uniform';

// @ts-ignore: decorator
@inline
function half(at: usize): f32 { return f16ToF32(load<u16>(at)); }

// @ts-ignore: decorator
@inline
function storePair(params: usize, s: f32, z: f32): void {
  store<f32>(params, s);
  store<f32>(params, z, 4);
}

// @ts-ignore: decorator
@inline
function storeSmall(small: usize, j: usize, scale: u8, offset: u8): void {
  store<u8>(small + j, scale, 4);
  store<u8>(small + j, offset, 20);
}

/** 16 bytes -> 32 codes: the low halves first. */
// @ts-ignore: decorator
@inline
function nibbles(src: usize, codes: usize): void {
  const bytes = v128.load(src);
  v128.store(codes, v128.and(bytes, i8x16.splat(15)));
  v128.store(codes, i8x16.shr_u(bytes, 4), 16);
}

/** Adds bit e of `bits` as bit 4 of code e. */
// @ts-ignore: decorator
@inline
function fifthBits(bits: u32, codes: usize): void {
  const each = i8x16(1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128), all = i32x4.splat(bits);
  for (let half: usize = 0; half < 32; half += 16) {
    const bytes = half ? v128.shuffle<i8>(all, all, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3) : v128.shuffle<i8>(all, all, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const set = i8x16.eq(v128.and(bytes, each), each);
    v128.store(codes + half, v128.or(v128.load(codes + half), v128.and(set, i8x16.splat(16))));
  }
}

export function splitQ4_0(src: usize, cols: i32, codes: usize, params: usize): void {
  for (let k = 0; k < cols; k += 32, src += 18, codes += 32, params += 8) {
    const d = half(src);
    storePair(params, d, -8 * d);
    nibbles(src + 2, codes);
  }
}

export function splitQ4_1(src: usize, cols: i32, codes: usize, params: usize): void {
  for (let k = 0; k < cols; k += 32, src += 20, codes += 32, params += 8) {
    storePair(params, half(src), half(src + 2));
    nibbles(src + 4, codes);
  }
}

export function splitQ5_0(src: usize, cols: i32, codes: usize, params: usize): void {
  for (let k = 0; k < cols; k += 32, src += 22, codes += 32, params += 8) {
    const d = half(src);
    storePair(params, d, -16 * d);
    nibbles(src + 6, codes);
    fifthBits(load<u32>(src + 2), codes);
  }
}

export function splitQ5_1(src: usize, cols: i32, codes: usize, params: usize): void {
  for (let k = 0; k < cols; k += 32, src += 24, codes += 32, params += 8) {
    storePair(params, half(src), half(src + 2));
    nibbles(src + 8, codes);
    fifthBits(load<u32>(src + 4), codes);
  }
}

/** Signed bytes: the codes are 128 higher. */
export function splitQ8_0(src: usize, cols: i32, codes: usize, params: usize): void {
  for (let k = 0; k < cols; k += 32, src += 34, codes += 32, params += 8) {
    const d = half(src);
    storePair(params, d, -128 * d);
    v128.store(codes, v128.xor(v128.load(src + 2), i8x16.splat(-128)));
    v128.store(codes, v128.xor(v128.load(src + 18), i8x16.splat(-128)), 16);
  }
}

/** 64 bytes -> 256 codes of two bits: per 32 bytes first their lowest pairs of bits, then the next. */
// @ts-ignore: decorator
@inline
function pairs(src: usize, codes: usize): void {
  const mask = i8x16.splat(3);
  for (let n: usize = 0; n < 64; n += 32, codes += 128) {
    for (let half: usize = 0; half < 32; half += 16) {
      const bytes = v128.load(src + n + half);
      v128.store(codes + half, v128.and(bytes, mask));
      v128.store(codes + half, v128.and(i8x16.shr_u(bytes, 2), mask), 32);
      v128.store(codes + half, v128.and(i8x16.shr_u(bytes, 4), mask), 64);
      v128.store(codes + half, i8x16.shr_u(bytes, 6), 96);
    }
  }
}

/** Groups of 16: scales u4 and minima u4 [16], codes [64], d, dmin. */
export function splitQ2_K(src: usize, cols: i32, codes: usize, small: usize): void {
  for (let k = 0; k < cols; k += 256, src += 84, codes += 256, small += SMALL_BYTES) {
    store<u32>(small, load<u32>(src + 80));
    for (let j: usize = 0; j < 16; j++) {
      const both = load<u8>(src + j);
      storeSmall(small, j, both & 15, both >> 4);
    }
    pairs(src + 16, codes);
  }
}

/** 32 bytes: bit n of byte i becomes bit `at` of code 32 n + i. */
// @ts-ignore: decorator
@inline
function bitOfEach(src: usize, codes: usize, at: i32): void {
  const a = v128.load(src), b = v128.load(src, 16), one = i8x16.splat(1);
  for (let n = 0; n < 8; n++, codes += 32) {
    v128.store(codes, v128.or(v128.load(codes), i8x16.shl(v128.and(i8x16.shr_u(a, n), one), at)));
    v128.store(codes, v128.or(v128.load(codes, 16), i8x16.shl(v128.and(i8x16.shr_u(b, n), one), at)), 16);
  }
}

/** Groups of 16: high bits [32], low codes [64], 6-bit scales [12], d. The codes' zero is 4. */
export function splitQ3_K(src: usize, cols: i32, codes: usize, small: usize): void {
  for (let k = 0; k < cols; k += 256, src += 110, codes += 256, small += SMALL_BYTES) {
    store<u32>(small, load<u16>(src + 108));
    for (let j: usize = 0; j < 16; j++) {
      const low = (load<u8>(src + 96 + (j & 7)) >> <u8>((j >> 3) << 2)) & 15;
      const high = (load<u8>(src + 104 + (j & 3)) >> <u8>((j >> 2) << 1)) & 3;
      storeSmall(small, j, (low | (high << 4)) - 32, 0);
    }
    pairs(src + 32, codes);
    bitOfEach(src, codes, 2);
  }
}

/** Scales and minima of Q4_K and Q5_K: d, dmin, then 6 bits each, eight of both in 12 bytes. */
// @ts-ignore: decorator
@inline
function scalesAndMinima(src: usize, small: usize): void {
  store<u32>(small, load<u32>(src));
  const sc = src + 4;
  for (let j: usize = 0; j < 8; j++) {
    let s: u8, m: u8;
    if (j < 4) {
      s = load<u8>(sc + j) & 63;
      m = load<u8>(sc + j + 4) & 63;
    } else {
      s = (load<u8>(sc + j + 4) & 15) | ((load<u8>(sc + j - 4) >> 6) << 4);
      m = (load<u8>(sc + j + 4) >> 4) | ((load<u8>(sc + j) >> 6) << 4);
    }
    storeSmall(small, j, s, m);
  }
}

/** 128 bytes -> 256 codes: per 32 bytes the low halves, then the high ones. */
// @ts-ignore: decorator
@inline
function wideNibbles(src: usize, codes: usize): void {
  for (const end = src + 128; src < end; src += 32, codes += 64) {
    const a = v128.load(src), b = v128.load(src, 16), mask = i8x16.splat(15);
    v128.store(codes, v128.and(a, mask));
    v128.store(codes, v128.and(b, mask), 16);
    v128.store(codes, i8x16.shr_u(a, 4), 32);
    v128.store(codes, i8x16.shr_u(b, 4), 48);
  }
}

/** Groups of 32: d, dmin, scales and minima [12], codes [128]. */
export function splitQ4_K(src: usize, cols: i32, codes: usize, small: usize): void {
  for (let k = 0; k < cols; k += 256, src += 144, codes += 256, small += SMALL_BYTES) {
    scalesAndMinima(src, small);
    wideNibbles(src + 16, codes);
  }
}

/** Groups of 32: d, dmin, scales and minima [12], high bits [32], low codes [128]. */
export function splitQ5_K(src: usize, cols: i32, codes: usize, small: usize): void {
  for (let k = 0; k < cols; k += 256, src += 176, codes += 256, small += SMALL_BYTES) {
    scalesAndMinima(src, small);
    wideNibbles(src + 48, codes);
    bitOfEach(src + 16, codes, 4);
  }
}

/** Groups of 16: low codes [128], high pairs of bits [64], scales i8 [16], d. The codes' zero is 32. */
export function splitQ6_K(src: usize, cols: i32, codes: usize, small: usize): void {
  for (let k = 0; k < cols; k += 256, src += 210, codes += 256, small += SMALL_BYTES) {
    store<u32>(small, load<u16>(src + 208));
    for (let j: usize = 0; j < 16; j++) storeSmall(small, j, load<u8>(src + 192 + j), 0);
    pairs(src + 128, codes);
    for (let e: usize = 0; e < 256; e += 16) {
      const bytes = v128.load(src + ((e >> 7) << 6) + (e & 63)), low = e & 64 ? i8x16.shr_u(bytes, 4) : v128.and(bytes, i8x16.splat(15));
      v128.store(codes + e, v128.or(i8x16.shl(v128.load(codes + e), 4), low));
    }
  }
}

/** Groups of 256: trits + 1, five in a byte as a base-3 fraction of 256; 32 bytes, 16 bytes, 4 bytes of four, d. */
export function splitTQ1_0(src: usize, cols: i32, codes: usize, params: usize): void {
  for (let k = 0; k < cols; k += 256, src += 54, codes += 256, params += 8) {
    const d = half(src + 52);
    storePair(params, d, -d);
    trits(src, 32, 5, codes);
    trits(src + 32, 16, 5, codes + 160);
    trits(src + 48, 4, 4, codes + 240);
  }
}

/** The first trit of each of `n` bytes, then the second of each … `n`: 4 or a multiple of 16. */
// @ts-ignore: decorator
@inline
function trits(src: usize, n: usize, perByte: i32, codes: usize): void {
  const three = i16x8.splat(3), byte = i16x8.splat(255);
  for (let i: usize = 0; i < n; i += 16) {
    const bytes = v128.load(src + i);
    let low = i16x8.extend_low_i8x16_u(bytes), high = i16x8.extend_high_i8x16_u(bytes);
    for (let p: usize = 0; p < <usize>perByte; p++) {
      // byte * 3^p mod 256, then the upper byte of three times that.
      const a = i16x8.mul(low, three), b = i16x8.mul(high, three), trit = i8x16.narrow_i16x8_u(i16x8.shr_u(a, 8), i16x8.shr_u(b, 8)), at = codes + p * n + i;
      if (n < 16) store<u32>(at, i32x4.extract_lane(trit, 0));
      else v128.store(at, trit);
      low = v128.and(a, byte);
      high = v128.and(b, byte);
    }
  }
}

/** Groups of 256: trits + 1 in two bits, d. The fourth value, 3, means nothing and becomes a weight that is not finite. */
export function splitTQ2_0(src: usize, cols: i32, codes: usize, params: usize): void {
  for (let k = 0; k < cols; k += 256, src += 66, codes += 256, params += 8) {
    const d = half(src + 64);
    pairs(src, codes);
    let both = i8x16.splat(0);
    for (let i: usize = 0; i < 64; i += 16) both = v128.or(both, v128.and(v128.load(src + i), i16x8.shr_u(v128.load(src + i), 1)));
    storePair(params, v128.any_true(v128.and(both, i8x16.splat(0x55))) ? f32.NaN : d, -d);
  }
}

/** w = s q + z. */
export function rowFromCodes(codes: usize, params: usize, groupSize: i32, cols: i32, dst: usize): void {
  for (let k = 0; k < cols; k += groupSize, params += 8) {
    const s = f32x4.splat(load<f32>(params)), z = f32x4.splat(load<f32>(params, 4));
    for (const end = codes + <usize>groupSize; codes < end; codes += 4, dst += 16) {
      const q = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(codes)));
      v128.store(dst, f32x4.add(f32x4.mul(f32x4.convert_i32x4_u(q), s), z));
    }
  }
}

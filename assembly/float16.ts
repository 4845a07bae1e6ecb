/** IEEE 754 half precision <-> f32. */

/** Four halves, each in the low 16 bits of a lane. Exact, subnormals included. */
// @ts-ignore: decorator
@inline
export function f16x4ToF32(h: v128): v128 {
  const sign = i32x4.shl(v128.and(h, i32x4.splat(0x8000)), 16);
  const magnitude = i32x4.shl(v128.and(h, i32x4.splat(0x7fff)), 13);
  // 2^112 moves the exponent from half's bias to single's and normalises subnormals.
  const value = f32x4.mul(magnitude, i32x4.splat(0x77800000));
  const special = i32x4.ge_u(magnitude, i32x4.splat(0x0f800000));
  return v128.or(sign, v128.bitselect(v128.or(magnitude, i32x4.splat(0x7f800000)), value, special));
}

export function f16ToF32(h: u32): f32 {
  return f32x4.extract_lane(f16x4ToF32(i32x4.splat(h)), 0);
}

/** Nearest half, ties to even. What is too large becomes the largest finite half: parameters stay finite. */
export function f16FromF32(value: f32): u32 {
  const bits = reinterpret<u32>(value);
  const sign = (bits >> 16) & 0x8000;
  let magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x477ff000) return sign | 0x7bff;
  if (magnitude < 0x38800000) {
    // Subnormal halves are multiples of 2^-24: adding 0.5 (whose last bit is 2^-24) rounds to one.
    return sign | (reinterpret<u32>(reinterpret<f32>(magnitude) + <f32>0.5) - 0x3f000000);
  }
  magnitude += 0xfff + ((magnitude >> 13) & 1);
  return sign | ((magnitude - 0x38000000) >> 13);
}

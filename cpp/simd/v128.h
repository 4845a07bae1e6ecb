// Thin words over WASM SIMD128, so that a kernel reads like its formula. The relaxed tier differs in one word only:
// swizzle, which with indices 0..15 gives the same bytes but compiles to a single shuffle. No relaxed multiply-add:
// some engines fuse it and some don't.
#pragma once
#include <wasm_simd128.h>
#include "math.h"

#define LUTRA_INLINE inline __attribute__((always_inline))
#define LUTRA_LAMBDA __attribute__((always_inline))

namespace lutra {
using V = v128_t;

LUTRA_INLINE V load(const void* p) { return wasm_v128_load(p); }
LUTRA_INLINE void store(void* p, V v) { wasm_v128_store(p, v); }
LUTRA_INLINE V splat(float x) { return wasm_f32x4_splat(x); }
LUTRA_INLINE V splatAt(const float* p) { return wasm_v128_load32_splat(p); }

// table[index], 0 <= index < 16
LUTRA_INLINE V swizzle(V table, V index) {
#ifdef LUTRA_RELAXED
  return wasm_i8x16_relaxed_swizzle(table, index);
#else
  return wasm_i8x16_swizzle(table, index);
#endif
}

LUTRA_INLINE V add(V a, V b) { return wasm_f32x4_add(a, b); }
LUTRA_INLINE V sub(V a, V b) { return wasm_f32x4_sub(a, b); }
LUTRA_INLINE V mul(V a, V b) { return wasm_f32x4_mul(a, b); }
// a < b ? b : a, as the reference's comparisons do it
LUTRA_INLINE V larger(V a, V b) { return wasm_f32x4_pmax(a, b); }

LUTRA_INLINE float lane0(V v) { return wasm_f32x4_extract_lane(v, 0); }
// (s0 + s1) + (s2 + s3): joined() of the reference
LUTRA_INLINE float joinedV(V s) {
  const V pairs = add(s, wasm_i32x4_shuffle(s, s, 1, 0, 3, 2));
  return lane0(add(pairs, wasm_i32x4_shuffle(pairs, pairs, 2, 3, 0, 1)));
}
LUTRA_INLINE float largestV(V m) {
  m = larger(m, wasm_i32x4_shuffle(m, m, 2, 3, 0, 1));
  return lane0(larger(m, wasm_i32x4_shuffle(m, m, 1, 0, 3, 2)));
}

// Lanes first .. first + 3 of a row of which n count: `otherwise` in place of the others.
LUTRA_INLINE V onlyBelow(V v, uint32_t first, uint32_t n, V otherwise) {
  if (first + 4 <= n) return v;
  const V position = wasm_i32x4_add(wasm_i32x4_splat(static_cast<int32_t>(first)), wasm_i32x4_make(0, 1, 2, 3));
  return wasm_v128_bitselect(v, otherwise, wasm_i32x4_lt(position, wasm_i32x4_splat(static_cast<int32_t>(n))));
}

// The integer nearest to x, ties to even, |x| <= 2^22, in the low bits: 1.5 * 2^23 leaves no room for a fraction. One
// instruction; engines make seven of a conversion with saturation.
LUTRA_INLINE V withoutFraction(V x) { return add(x, splat(kNoFraction)); }

// exponential() of math.h on four lanes
LUTRA_INLINE V exponentialV(V x) {
  x = wasm_f32x4_pmax(x, splat(kExpMin));
  x = wasm_f32x4_pmin(x, splat(kExpMax));
  const V bits = withoutFraction(mul(x, splat(kLog2E))), n = sub(bits, splat(kNoFraction));
  const V r = sub(sub(x, mul(n, splat(kLn2Hi))), mul(n, splat(kLn2Lo)));
  V p = splat(kExpPoly[0]);
  for (int i = 1; i < 6; i++) p = add(mul(p, r), splat(kExpPoly[i]));
  p = add(add(mul(p, mul(r, r)), r), splat(1.0f));
  return mul(p, wasm_i32x4_add(wasm_i32x4_shl(bits, 23), wasm_i32x4_splat(127 << 23)));
}

// Eight halves, in order, as two vectors of floats: halfToFloat() of half.h
LUTRA_INLINE V halfToFloatV(V low16) {
  const V bits = wasm_v128_or(wasm_i32x4_shl(wasm_v128_and(low16, wasm_i32x4_splat(0x8000)), 16),
                              wasm_i32x4_shl(wasm_v128_and(low16, wasm_i32x4_splat(0x7fff)), 13));
  return mul(bits, splat(5.192296858534828e33f));
}

}  // namespace lutra

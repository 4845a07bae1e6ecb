// Sets of levels. A level is linear in its parameters, level(code) = sum over a of theta[a] phi_a(code), so that every fit is a
// linear least-squares problem. Four rows of a matrix are the lanes of a vector; a code is an i32.
#pragma once
#include "simd/v128.h"

namespace lutra::quant {

LUTRA_INLINE V fromCode(V code) { return wasm_f32x4_convert_i32x4(code); }
LUTRA_INLINE V reciprocal(V x) { return wasm_v128_and(wasm_f32x4_div(splat(1), x), wasm_f32x4_ne(x, splat(0))); }
LUTRA_INLINE V clampedCode(V x, float top) {
  const V within = wasm_f32x4_pmin(splat(top), wasm_f32x4_pmax(splat(0), x));
  return wasm_i32x4_sub(withoutFraction(within), splat(kNoFraction));
}

// 2^planes even levels: theta = middle, step.
struct Uniform {
  static constexpr uint32_t kParams = 2;
  const float top, mid;
  V middle, step, inverse;
  explicit Uniform(uint32_t planes) : top(static_cast<float>((1u << planes) - 1)), mid(top / 2) {}

  void use(const V* theta) {
    middle = theta[0];
    step = theta[1];
    inverse = reciprocal(step);
  }
  LUTRA_INLINE V nearestCode(V t) const { return clampedCode(add(mul(sub(t, middle), inverse), splat(mid)), top); }
  LUTRA_INLINE V phi(V code, uint32_t a) const { return a == 0 ? splat(1) : sub(fromCode(code), splat(mid)); }
  LUTRA_INLINE V level(V code) const { return add(middle, mul(step, phi(code, 1))); }
  // The code that means the same when theta[a] changes its sign in the lanes of `which`.
  LUTRA_INLINE V flipped(V code, uint32_t, V which) const {
    return wasm_v128_bitselect(wasm_i32x4_sub(wasm_i32x4_splat(static_cast<int32_t>(top)), code), code, which);
  }
  void start(V* theta, V low, V high, float share) const {
    theta[0] = mul(splat(0.5f), add(low, high));
    theta[1] = mul(splat(share / top), sub(high, low));
  }
};

// HLQ: a scale for every plane; theta = middle z', s_0 …; level = z' + sum of ± s_p / 2, + where bit p is set.
template <uint32_t P>
struct Planes {
  static constexpr uint32_t kParams = P + 1;
  V middle, scales[P], table[1 << P];

  void use(const V* theta) {
    table[0] = theta[0];
    for (uint32_t p = 0; p < P; p++) {
      scales[p] = theta[1 + p];
      const V half = mul(splat(0.5f), theta[1 + p]);
      for (uint32_t e = 0; e < (1u << p); e++) {
        table[e + (1u << p)] = add(table[e], half);
        table[e] = sub(table[e], half);
      }
    }
    middle = theta[0];
  }
  LUTRA_INLINE V nearestCode(V t) const {
    V code = wasm_i32x4_splat(0), best = wasm_f32x4_abs(sub(t, table[0]));
    for (uint32_t e = 1; e < (1u << P); e++) {
      const V distance = wasm_f32x4_abs(sub(t, table[e]));
      code = wasm_v128_bitselect(wasm_i32x4_splat(static_cast<int32_t>(e)), code, wasm_f32x4_lt(distance, best));
      best = wasm_f32x4_pmin(best, distance);
    }
    return code;
  }
  // + 1/2 or - 1/2: the bit, inverted, becomes the sign.
  LUTRA_INLINE V phi(V code, uint32_t a) const {
    if (a == 0) return splat(1);
    const V sign = wasm_i32x4_shl(wasm_u32x4_shr(wasm_v128_not(code), a - 1), 31);
    return wasm_v128_or(sign, splat(0.5f));
  }
  LUTRA_INLINE V level(V code) const {
    V sum = middle;
    for (uint32_t p = 0; p < P; p++) sum = add(sum, mul(scales[p], phi(code, 1 + p)));
    return sum;
  }
  LUTRA_INLINE V flipped(V code, uint32_t a, V which) const {
    return wasm_v128_xor(code, wasm_v128_and(which, wasm_i32x4_splat(1 << (a - 1))));
  }
  void start(V* theta, V low, V high, float share) const {
    theta[0] = mul(splat(0.5f), add(low, high));
    for (uint32_t p = 0; p < P; p++) theta[1 + p] = mul(splat(share * static_cast<float>(1u << p) / static_cast<float>((1u << P) - 1)), sub(high, low));
  }
};

}  // namespace lutra::quant

// RMSNorm, RoPE and the gated unit on four lanes. Formulas: reference/layer.cc. Bound: a few us a layer.
#include "kernels/kernels.h"
#include "simd/v128.h"

namespace lutra::kernels {

// Vectors are padded with zeros to a multiple of 4, weights too.
void rmsNorm(float* h, const float* x, const float* w, uint32_t n, float eps) {
  V s = splat(0);
  for (uint32_t i = 0; i < n; i += 4) s = add(s, mul(load(x + i), load(x + i)));
  const V inverse = splat(1.0f / __builtin_sqrtf(joinedV(s) / static_cast<float>(n) + eps));
  for (uint32_t i = 0; i < n; i += 4) store(h + i, mul(mul(load(x + i), inverse), load(w + i)));
}

void rope(float* head, const float* rope, uint32_t headDim) {
  const uint32_t half = headDim / 2;
  for (uint32_t i = 0; i < half; i += 4) {
    const V a = load(head + i), b = load(head + i + half), c = load(rope + i), s = load(rope + i + half);
    store(head + i, sub(mul(a, c), mul(b, s)));
    store(head + i + half, add(mul(a, s), mul(b, c)));
  }
}

void gatedUnit(float* gate, const float* up, uint32_t n, Activation activation) {
  for (uint32_t i = 0; i < n; i += 4) {
    const V g = load(gate + i);
    V v;
    if (activation == Activation::silu) {
      v = wasm_f32x4_div(g, add(splat(1.0f), exponentialV(wasm_f32x4_neg(g))));
    } else {
      const V r = wasm_v128_and(g, wasm_f32x4_gt(g, splat(0)));
      v = mul(r, r);
    }
    store(gate + i, mul(v, load(up + i)));
  }
}

}  // namespace lutra::kernels

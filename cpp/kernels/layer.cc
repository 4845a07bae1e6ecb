// RMSNorm, RoPE, attention and the gated unit on four lanes. Formulas: reference/layer.cc.
// Bounds: attention reads the KV cache once (memory); the others are a few us a layer.
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

// out[0 .. 4 N - 1] = inverse * sum over positions of score * V[position][d ..]; the sums stay in registers.
template <int N>
LUTRA_INLINE void weightedSum(float* out, const float* kv, const float* scores, uint32_t n, uint32_t headDim, uint32_t d, V inverse) {
  V y[N];
  for (int j = 0; j < N; j++) y[j] = splat(0);
  for (uint32_t first = 0; first < n; first += KV_BLOCK) {
    const float* values = kv + static_cast<size_t>(first / KV_BLOCK) * kvBlockFloats(headDim) + KV_BLOCK * headDim + d;
    const uint32_t positions = n - first < KV_BLOCK ? n - first : KV_BLOCK;
    for (uint32_t i = 0; i < positions; i++) {
      const V p = splatAt(scores + first + i);
      for (int j = 0; j < N; j++) y[j] = add(y[j], mul(p, load(values + i * headDim + 4 * j)));
    }
  }
  for (int j = 0; j < N; j++) store(out + 4 * j, mul(y[j], inverse));
}

// headDim is a multiple of 8.
void attend(float* out, const float* q, const float* kv, uint32_t last, uint32_t headDim, float* scores) {
  const V scale = splat(1.0f / __builtin_sqrtf(static_cast<float>(headDim)));
  const uint32_t n = last + 1, blockFloats = kvBlockFloats(headDim);
  V peaks = splat(-__builtin_inff());
  for (uint32_t i = 0; i < n; i += KV_BLOCK) {
    const float* keys = kv + static_cast<size_t>(i / KV_BLOCK) * blockFloats;
    V s[4] = {splat(0), splat(0), splat(0), splat(0)};
    for (uint32_t d = 0; d < headDim; d++) {
      const V qd = splatAt(q + d);
      for (int j = 0; j < 4; j++) s[j] = add(s[j], mul(qd, load(keys + d * KV_BLOCK + 4 * j)));
    }
    for (uint32_t j = 0; j < 4; j++) {
      s[j] = mul(s[j], scale);
      // Positions beyond the last hold older values: they must not count.
      if (i + 4 * j + 4 > n) {
        const V position = wasm_i32x4_add(wasm_i32x4_splat(static_cast<int32_t>(i + 4 * j)), wasm_i32x4_make(0, 1, 2, 3));
        s[j] = wasm_v128_bitselect(s[j], splat(-__builtin_inff()), wasm_i32x4_lt(position, wasm_i32x4_splat(static_cast<int32_t>(n))));
      }
      peaks = larger(peaks, s[j]);
      store(scores + i + 4 * j, s[j]);
    }
  }
  const V peak = splat(largestV(peaks));
  V sums = splat(0);
  for (uint32_t i = 0; i < n; i += 4) {
    V p = exponentialV(sub(load(scores + i), peak));
    if (i + 4 > n) {
      const V position = wasm_i32x4_add(wasm_i32x4_splat(static_cast<int32_t>(i)), wasm_i32x4_make(0, 1, 2, 3));
      p = wasm_v128_and(p, wasm_i32x4_lt(position, wasm_i32x4_splat(static_cast<int32_t>(n))));
    }
    sums = add(sums, p);
    store(scores + i, p);
  }
  const V inverse = splat(1.0f / joinedV(sums));
  uint32_t d = 0;
  for (; d + 16 <= headDim; d += 16) weightedSum<4>(out + d, kv, scores, n, headDim, d, inverse);
  if (d < headDim) weightedSum<2>(out + d, kv, scores, n, headDim, d, inverse);
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

// Softmax attention over the f32 cache. Formulas: reference/attention.cc; layout of the cache: ops.h.
//
//   scores = q K / sqrt(headDim), out = softmax(scores) V
//
// Bound: one multiplication and addition per 4 products.
#include "kernels/kernels.h"
#include "simd/v128.h"

namespace lutra::kernels {
namespace {

// scores[i] = e^(scores[i] - largest), 0 beyond n. Returns 1 / their sum. Scores are there up to a multiple of KV_BLOCK.
LUTRA_INLINE float softmax(float* scores, uint32_t n) {
  const V lowest = splat(-__builtin_inff());
  V peaks = lowest, sums = splat(0);
  for (uint32_t i = 0; i < roundUp(n, KV_BLOCK); i += 4) {
    const V s = onlyBelow(load(scores + i), i, n, lowest);
    store(scores + i, s);
    peaks = larger(peaks, s);
  }
  const V peak = splat(largestV(peaks));
  for (uint32_t i = 0; i < roundUp(n, KV_BLOCK); i += 4) {
    const V p = onlyBelow(exponentialV(sub(load(scores + i), peak)), i, n, splat(0));
    sums = add(sums, p);
    store(scores + i, p);
  }
  return 1.0f / joinedV(sums);
}

// out[0 .. 4 N - 1] = inverse * sum over positions of score * V[position][d ..]; the sums stay in registers.
template <int N>
LUTRA_INLINE void weightedSum(float* out, const uint8_t* kv, const float* scores, uint32_t n, uint32_t headDim, uint32_t d, V inverse) {
  V y[N];
  for (int j = 0; j < N; j++) y[j] = splat(0);
  for (uint32_t first = 0; first < n; first += KV_BLOCK, kv += kvBlockBytes(KvType::f32, headDim)) {
    const float* values = reinterpret_cast<const float*>(kv) + KV_BLOCK * headDim + d;
    const uint32_t positions = n - first < KV_BLOCK ? n - first : KV_BLOCK;
    for (uint32_t i = 0; i < positions; i++) {
      const V p = splatAt(scores + first + i);
      for (int j = 0; j < N; j++) y[j] = add(y[j], mul(p, load(values + i * headDim + 4 * j)));
    }
  }
  for (int j = 0; j < N; j++) store(out + 4 * j, mul(y[j], inverse));
}

}  // namespace

// headDim is a multiple of 8.
void attendF32(float* out, const float* q, uint32_t heads, const uint8_t* kv, uint32_t last, uint32_t headDim, float* scores) {
  const V scale = splat(1.0f / __builtin_sqrtf(static_cast<float>(headDim)));
  const uint32_t n = last + 1;
  for (uint32_t h = 0; h < heads; h++, q += headDim, out += headDim) {
    for (uint32_t i = 0; i < n; i += KV_BLOCK) {
      const float* keys = reinterpret_cast<const float*>(kv + static_cast<size_t>(i / KV_BLOCK) * kvBlockBytes(KvType::f32, headDim));
      V s[4] = {splat(0), splat(0), splat(0), splat(0)};
      for (uint32_t d = 0; d < headDim; d++) {
        const V qd = splatAt(q + d);
        for (int j = 0; j < 4; j++) s[j] = add(s[j], mul(qd, load(keys + d * KV_BLOCK + 4 * j)));
      }
      for (uint32_t j = 0; j < 4; j++) store(scores + i + 4 * j, mul(s[j], scale));
    }
    const V inverse = splat(softmax(scores, n));
    uint32_t d = 0;
    for (; d + 16 <= headDim; d += 16) weightedSum<4>(out + d, kv, scores, n, headDim, d, inverse);
    if (d < headDim) weightedSum<2>(out + d, kv, scores, n, headDim, d, inverse);
  }
}

}  // namespace lutra::kernels

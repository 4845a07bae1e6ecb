// Softmax attention. Formulas: reference/attention.cc; layout of the cache: ops.h.
//
//   scores = q K / sqrt(headDim), out = softmax(scores) V
//
// Bounds: f32: one multiplication and addition per 4 products. int8: i32x4.dot_i16x8_s and an addition per 8 products and
// query head; what heads share, codes widened to int16, is loaded once for two of them.
#include "kernels/kernels.h"
#include "simd/v128.h"

namespace lutra::kernels {
namespace {

// Positions first .. first + 3, of which the first n count: `otherwise` in place of the others.
LUTRA_INLINE V onlyBelow(V v, uint32_t first, uint32_t n, V otherwise) {
  if (first + 4 <= n) return v;
  const V position = wasm_i32x4_add(wasm_i32x4_splat(static_cast<int32_t>(first)), wasm_i32x4_make(0, 1, 2, 3));
  return wasm_v128_bitselect(v, otherwise, wasm_i32x4_lt(position, wasm_i32x4_splat(static_cast<int32_t>(n))));
}

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

// y[t][i] += sum over pairs j of x[t][j] w[j][8 i .. 8 i + 7], w[j] being `stride` bytes after w[j - 1].
template <int T, int N>
LUTRA_INLINE void addPairs(V (*y)[N], const uint8_t* w, size_t stride, const int16_t* const* x, uint32_t pairs) {
#pragma clang loop unroll(disable)
  for (uint32_t j = 0; j < pairs; j++, w += stride) {
    V v[N];
    for (int i = 0; i < N; i++) v[i] = wasm_i16x8_load8x8(w + 8 * i);
    for (int t = 0; t < T; t++) {
      const V xj = wasm_v128_load32_splat(x[t] + 2 * j);
      for (int i = 0; i < N; i++) y[t][i] = wasm_i32x4_add(y[t][i], wasm_i32x4_dot_i16x8(xj, v[i]));
    }
  }
}

// What the int8 form needs for a few query heads, each array one after the other; ld: positions up to a multiple of KV_BLOCK.
struct Scratch {
  float* weights;    // [heads][ld]: scores, then softmax times the values' scales
  int16_t* rounded;  // [heads][ld]: these
  int16_t* q;        // [heads][headDim]
  int32_t* sums;     // [heads][headDim]
  float unit[kAttendHeads];
};

// Scores of T heads at the 16 positions of a block.
template <int T>
LUTRA_INLINE void scoreBlock(const Scratch& s, uint32_t h, const uint8_t* block, uint32_t first, uint32_t ld, uint32_t headDim) {
  V y[T][4];
  const int16_t* q[T];
  for (int t = 0; t < T; t++) {
    q[t] = s.q + (h + t) * headDim;
    for (int i = 0; i < 4; i++) y[t][i] = wasm_i32x4_splat(0);
  }
  addPairs<T, 4>(y, block, 2 * KV_BLOCK, q, headDim / 2);
  const float* scales = reinterpret_cast<const float*>(block + 2 * KV_BLOCK * headDim);
  for (int t = 0; t < T; t++) {
    const V unit = splat(s.unit[h + t]);
    for (int i = 0; i < 4; i++) store(s.weights + (h + t) * ld + first + 4 * i, mul(mul(wasm_f32x4_convert_i32x4(y[t][i]), load(scales + 4 * i)), unit));
  }
}

// sums of T heads += weights of `blocks` blocks from position `first` on times their values, dimensions d .. d + 4 N - 1.
template <int T, int N>
LUTRA_INLINE void addValues(const Scratch& s, uint32_t h, const uint8_t* kv, uint32_t blocks, uint32_t first, uint32_t ld, uint32_t headDim, uint32_t d) {
  V y[T][N];
  for (int t = 0; t < T; t++) for (int i = 0; i < N; i++) y[t][i] = load(s.sums + (h + t) * headDim + d + 4 * i);
  for (uint32_t b = 0; b < blocks; b++, kv += kvBlockBytes(KvType::int8, headDim), first += KV_BLOCK) {
    const int16_t* w[T];
    for (int t = 0; t < T; t++) w[t] = s.rounded + (h + t) * ld + first;
    addPairs<T, N>(y, kv + KV_BLOCK * headDim + 2 * d, 2 * headDim, w, KV_BLOCK / 2);
  }
  for (int t = 0; t < T; t++) for (int i = 0; i < N; i++) store(s.sums + (h + t) * headDim + d + 4 * i, y[t][i]);
}

// Blocks whose values are used for all heads and dimensions before the next: they stay in the first cache.
constexpr uint32_t kBlocksTogether = 4;

void attendFew(float* out, const float* q, uint32_t heads, const uint8_t* kv, uint32_t last, uint32_t headDim, Scratch& s) {
  const uint32_t n = last + 1, ld = roundUp(n, KV_BLOCK), blocks = ld / KV_BLOCK;
  const size_t stride = kvBlockBytes(KvType::int8, headDim);
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(headDim));
  for (uint32_t h = 0; h < heads; h++) {
    const float d = scaleI16(q + h * headDim, headDim);
    roundI16(s.q + h * headDim, q + h * headDim, headDim, d);
    s.unit[h] = d * scale;
  }
  for (uint32_t b = 0; b < blocks; b++) {
    uint32_t h = 0;
    for (; h + 2 <= heads; h += 2) scoreBlock<2>(s, h, kv + b * stride, b * KV_BLOCK, ld, headDim);
    if (h < heads) scoreBlock<1>(s, h, kv + b * stride, b * KV_BLOCK, ld, headDim);
  }
  for (uint32_t h = 0; h < heads; h++) {
    float* weights = s.weights + h * ld;
    const float inverse = softmax(weights, n);
    for (uint32_t i = 0; i < ld; i += 4) {
      const float* scales = reinterpret_cast<const float*>(kv + i / KV_BLOCK * stride + 2 * KV_BLOCK * headDim) + KV_BLOCK + i % KV_BLOCK;
      store(weights + i, onlyBelow(mul(load(weights + i), load(scales)), i, n, splat(0)));
    }
    const float d = scaleI16(weights, ld);
    roundI16(s.rounded + h * ld, weights, ld, d);
    s.unit[h] = d * inverse;
  }
  for (uint32_t i = 0; i < heads * headDim; i += 4) store(s.sums + i, splat(0));
  for (uint32_t b = 0; b < blocks; b += kBlocksTogether) {
    const uint32_t few = blocks - b < kBlocksTogether ? blocks - b : kBlocksTogether;
    const auto add = [&]<int T>(uint32_t h) LUTRA_LAMBDA {
      uint32_t d = 0;
      for (; d + 16 <= headDim; d += 16) addValues<T, 4>(s, h, kv + b * stride, few, b * KV_BLOCK, ld, headDim, d);
      if (d < headDim) addValues<T, 2>(s, h, kv + b * stride, few, b * KV_BLOCK, ld, headDim, d);
    };
    uint32_t h = 0;
    for (; h + 2 <= heads; h += 2) add.template operator()<2>(h);
    if (h < heads) add.template operator()<1>(h);
  }
  for (uint32_t h = 0; h < heads; h++) {
    for (uint32_t d = 0; d < headDim; d += 4) store(out + h * headDim + d, mul(wasm_f32x4_convert_i32x4(load(s.sums + h * headDim + d)), splat(s.unit[h])));
  }
}

}  // namespace

// headDim is a multiple of 8, here and below.
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

void attendInt8(float* out, const float* q, uint32_t heads, const uint8_t* kv, uint32_t last, uint32_t headDim, float* scratch) {
  const uint32_t ld = roundUp(last + 1, KV_BLOCK);
  for (uint32_t h = 0; h < heads; h += kAttendHeads) {
    const uint32_t few = heads - h < kAttendHeads ? heads - h : kAttendHeads;
    Scratch s;
    s.weights = scratch;
    s.rounded = reinterpret_cast<int16_t*>(s.weights + few * ld);
    s.q = s.rounded + few * ld;
    s.sums = reinterpret_cast<int32_t*>(s.q + few * headDim);
    attendFew(out + h * headDim, q + h * headDim, few, kv, last, headDim, s);
  }
}

}  // namespace lutra::kernels

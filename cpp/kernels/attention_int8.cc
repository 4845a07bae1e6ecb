// Softmax attention over the int8 cache. Formulas: reference/attention.cc; codes and why 16 bits are enough for their
// sums: attend8.h; layout of the cache: ops.h.
//
// A chunk is read into the cache at the full rate, then computed from there for all heads: scores, softmax, values.
//
// Bound, for 16 products of a query head: a product of bytes in pairs and an addition of 16-bit lanes (without relaxed SIMD
// two of each). Values widen their sums once a block: half an instruction more.
#include "attend8.h"
#include "kernels/kernels.h"
#include "simd/pairs.h"

namespace lutra::kernels {

// Loaded, not written as constants: V8 would rebuild them at every use inside the loops.
int16_t kOnes[8] = {1, 1, 1, 1, 1, 1, 1, 1};
float kPower2Constants[5] = {kPower2Min, kNoFraction, kPower2Poly[0], kPower2Poly[1], kPower2Poly[2]};

namespace {

// Apart, so that each has all registers.
#define LUTRA_ALONE __attribute__((noinline))

// A few query heads: their codes, the softmax so far. Arrays hold one head after the other.
struct Heads {
  float* scores;     // [kAttendChunk], then weights before rounding
  uint8_t* weights;  // fours of the chunk
  uint8_t* q;        // segments: what sums start from (two int16), then fours
  float* sums;       // [headDim]
  uint32_t qBytes, headDim;
  float unit[kAttendHeads], peak[kAttendHeads], total[kAttendHeads];
  float largest[kAttendHeads], factor[kAttendHeads];  // of the chunk: its largest score, what its weights are multiplied by
};

constexpr uint32_t kStartBytes = 4, kSegmentBytes = kStartBytes + kSegment / 4 * kFourBytes, kWeightBytes = kAttendChunk / 4 * kFourBytes;

// hadamard() of attend8.h
LUTRA_INLINE void hadamardV(float* x, uint32_t n) {
  const V odd = wasm_f32x4_make(1, -1, 1, -1), upper = wasm_f32x4_make(1, 1, -1, -1);
  for (uint32_t i = 0; i < n; i += 4) {
    const V v = load(x + i), pairs = add(wasm_i32x4_shuffle(v, v, 0, 0, 2, 2), mul(wasm_i32x4_shuffle(v, v, 1, 1, 3, 3), odd));
    store(x + i, add(wasm_i32x4_shuffle(pairs, pairs, 0, 1, 0, 1), mul(wasm_i32x4_shuffle(pairs, pairs, 2, 3, 2, 3), upper)));
  }
  for (uint32_t half = 4; half < powerIn(n); half *= 2) {
    for (uint32_t first = 0; first < n; first += 2 * half) {
      for (uint32_t i = first; i < first + half; i += 4) {
        const V a = load(x + i), b = load(x + i + half);
        store(x + i, add(a, b)), store(x + i + half, sub(a, b));
      }
    }
  }
}

// roundCodes() of attend8.h for a query, codes as fours. Keys are stored as 64 + code, so sums start from -64 times the query's.
LUTRA_INLINE float roundQuery(uint8_t* codes, const float* x, uint32_t n) {
  V peaks = splat(0), squares = splat(0);
  for (uint32_t first = 0; first < n; first += kSegment) {
    V s = splat(0);
    for (uint32_t d = first; d < n && d < first + kSegment; d += 4) {
      const V v = load(x + d);
      peaks = larger(peaks, wasm_f32x4_abs(v));
      s = add(s, mul(v, v));
    }
    squares = larger(squares, add(s, wasm_i32x4_shuffle(s, s, 1, 0, 3, 2)));
  }
  const float peak = largestV(peaks), scale = codeScale(peak, largestV(squares), kQueryCodes);
  const V inverse = splat(scale == 0 ? 0.0f : 1.0f / scale);
  for (uint32_t first = 0; first < n; first += kSegment, codes += kSegmentBytes) {
    V sums = wasm_i32x4_splat(0);
    for (uint32_t d = first; d < n && d < first + kSegment; d += 4) {
      const V code = wasm_i32x4_sub(withoutFraction(mul(load(x + d), inverse)), splat(kNoFraction));
      sums = wasm_i32x4_add(sums, code);
      putFour(codes + kStartBytes + (d - first) / 4 * kFourBytes, code);
    }
    const V sets = wasm_i32x4_mul(wasm_i32x4_add(sums, wasm_i32x4_shuffle(sums, sums, 1, 0, 3, 2)), wasm_i32x4_splat(-kKeyZero));
    wasm_v128_store16_lane(codes, sets, 0), wasm_v128_store16_lane(codes + 2, sets, 4);
  }
  return scale;
}

LUTRA_ALONE void startHead(Heads& s, uint32_t h, const float* q) {
  float* sums = s.sums + h * s.headDim;
  for (uint32_t d = 0; d < s.headDim; d += 4) store(sums + d, load(q + d));
  hadamardV(sums, s.headDim);
  s.unit[h] = roundQuery(s.q + h * s.qBytes, sums, s.headDim) * attendScale(s.headDim);
  s.peak[h] = -__builtin_inff(), s.total[h] = 0;
  for (uint32_t d = 0; d < s.headDim; d += 4) store(sums + d, splat(0));
}

// sums[t][i]: products of T heads and positions 4 i .. 4 i + 3 of a block in one segment.
template <int T> LUTRA_INLINE void multiplySegment(V (*sums)[4], const Heads& s, uint32_t h, const uint8_t* block, uint32_t segment, uint32_t fours) {
  const uint8_t* k = block + segment * kSegment * KV_BLOCK;
  const uint8_t* q[T];
  V y[T][4];
  for (int t = 0; t < T; t++) {
    q[t] = s.q + (h + t) * s.qBytes + segment * kSegmentBytes;
    for (int i = 0; i < 4; i++) y[t][i] = wasm_v128_load32_splat(q[t]);
  }
#pragma clang loop unroll(disable)
  for (uint32_t j = 0; j < fours; j++, k += 4 * KV_BLOCK) {
    Bytes v[4];
    for (int i = 0; i < 4; i++) v[i] = unsignedAt(k + 16 * i);
    for (int t = 0; t < T; t++) {
      const Four f = fourAt(q[t] + kStartBytes + j * kFourBytes);
      for (int i = 0; i < 4; i++) y[t][i] = wasm_i16x8_add(y[t][i], pairsUnsigned(v[i], f));
    }
  }
  for (int t = 0; t < T; t++) for (int i = 0; i < 4; i++) sums[t][i] = wasm_i32x4_dot_i16x8(y[t][i], load(kOnes));
}

// Scores of T heads at the n positions of a chunk, -infinity up to the end of the last block.
template <int T> LUTRA_ALONE void scoreChunk(Heads& s, uint32_t h, const uint8_t* block, uint32_t n) {
  const uint32_t whole = s.headDim / kSegment, rest = s.headDim % kSegment / 4, last = n / KV_BLOCK * KV_BLOCK;
  const size_t stride = kvBlockBytes(KvType::int8, s.headDim);
  float* scores = s.scores + h * kAttendChunk;
  V unit[T], peaks[T];
  for (int t = 0; t < T; t++) unit[t] = splat(s.unit[h + t]), peaks[t] = splat(-__builtin_inff());
  for (uint32_t at = 0; at < n; at += KV_BLOCK, block += stride) {
    V sums[T][4];
    multiplySegment<T>(sums, s, h, block, 0, whole ? kSegment / 4 : rest);
    for (uint32_t segment = 1; segment * kSegment < s.headDim; segment++) {
      V more[T][4];
      multiplySegment<T>(more, s, h, block, segment, segment < whole ? kSegment / 4 : rest);
      for (int t = 0; t < T; t++) for (int i = 0; i < 4; i++) sums[t][i] = wasm_i32x4_add(sums[t][i], more[t][i]);
    }
    const float* scales = reinterpret_cast<const float*>(block + 2 * KV_BLOCK * s.headDim);
    for (int t = 0; t < T; t++) {
      V x[4];
      for (int i = 0; i < 4; i++) {
        x[i] = mul(mul(wasm_f32x4_convert_i32x4(sums[t][i]), load(scales + 4 * i)), unit[t]);
        if (at == last) x[i] = onlyBelow(x[i], at + 4 * i, n, splat(-__builtin_inff()));
        store(scores + t * kAttendChunk + at + 4 * i, x[i]);
      }
      peaks[t] = larger(peaks[t], larger(larger(x[0], x[1]), larger(x[2], x[3])));
    }
  }
  for (int t = 0; t < T; t++) s.largest[h + t] = largestV(peaks[t]);
}

struct Power2 { V min, magic, c0, c1, c2; };
LUTRA_INLINE Power2 power2Constants() {
  const auto at = [](int i) LUTRA_LAMBDA { return splatAt(kPower2Constants + i); };
  return {at(0), at(1), at(2), at(3), at(4)};
}

// power2() of math.h on four lanes
LUTRA_INLINE V power2V(V x, const Power2& k) {
  x = larger(x, k.min);
  const V bits = add(x, k.magic), r = sub(x, sub(bits, k.magic));
  const V p = add(mul(add(mul(k.c0, r), k.c1), r), k.c2);
  return wasm_i32x4_add(p, wasm_i32x4_shl(bits, 23));
}

// Sums of a chunk's powers, and the largest sums of four weights (attend8.h).
struct Sizes { V total, fours; };

template <bool Masked> LUTRA_INLINE void weighBlock(Sizes& s, float* scores, const float* scales, V peak, uint32_t n, const Power2& k) {
  V p[4], w[4];
  for (int i = 0; i < 4; i++) {
    p[i] = power2V(sub(load(scores + 4 * i), peak), k);
    w[i] = mul(p[i], load(scales + 4 * i));
    if (Masked) p[i] = onlyBelow(p[i], 4 * i, n, splat(0)), w[i] = onlyBelow(w[i], 4 * i, n, splat(0));
    store(scores + 4 * i, w[i]);
  }
  s.total = add(s.total, add(add(p[0], p[1]), add(p[2], p[3])));
  s.fours = larger(s.fours, add(add(w[0], w[1]), add(w[2], w[3])));
}

// Scores of a chunk of n positions into rounded weights.
LUTRA_ALONE void weigh(Heads& s, uint32_t h, const uint8_t* kv, uint32_t n) {
  const Power2 k = power2Constants();
  float *scores = s.scores + h * kAttendChunk, *sums = s.sums + h * s.headDim;
  const float largest = s.largest[h];
  if (s.peak[h] < largest) {
    const V smaller = power2V(splat(s.peak[h] - largest), k);
    s.total[h] = s.total[h] * lane0(smaller);
    for (uint32_t d = 0; d < s.headDim; d += 4) store(sums + d, mul(load(sums + d), smaller));
    s.peak[h] = largest;
  }
  const size_t stride = kvBlockBytes(KvType::int8, s.headDim);
  const uint8_t* scales = kv + 2 * KV_BLOCK * s.headDim + KV_BLOCK * sizeof(float);
  const uint32_t whole = n / KV_BLOCK * KV_BLOCK;
  const V peak = splat(s.peak[h]);
  Sizes sizes = {splat(0), splat(0)};
  for (uint32_t i = 0; i < whole; i += KV_BLOCK, scales += stride) weighBlock<false>(sizes, scores + i, reinterpret_cast<const float*>(scales), peak, KV_BLOCK, k);
  if (whole < n) weighBlock<true>(sizes, scores + whole, reinterpret_cast<const float*>(scales), peak, n - whole, k);
  s.factor[h] = largestV(sizes.fours) / kWeightSum;
  s.total[h] = s.total[h] + joinedV(sizes.total);
}

LUTRA_ALONE void roundWeights(Heads& s, uint32_t h, uint32_t n) {
  const V magic = splatAt(kPower2Constants + 1);
  const float* scores = s.scores + h * kAttendChunk;
  uint8_t* weights = s.weights + h * kWeightBytes;
  const V inverse = splat(s.factor[h] < 1e-30f ? 0.0f : 1.0f / s.factor[h]);
  for (uint32_t i = 0; i < n; i += KV_BLOCK, weights += KV_BLOCK / 4 * kFourBytes) {
    V v[4];
    for (int j = 0; j < 4; j++) v[j] = wasm_i32x4_sub(add(mul(load(scores + i + 4 * j), inverse), magic), magic);
    putCodes(weights, v);
  }
}

// sums of T heads += the chunk's weights times its values, dimensions d .. d + 4 N - 1.
template <int T, int N> LUTRA_ALONE void addValues(Heads& s, uint32_t h, const uint8_t* kv, uint32_t blocks, uint32_t d) {
  constexpr uint32_t kFours = KV_BLOCK / 4;
  const uint32_t headDim = s.headDim;
  const V ones = load(kOnes);
  const uint8_t* v = kv + KV_BLOCK * headDim + 4 * d;
  V y[T][N];
  for (int t = 0; t < T; t++) for (int i = 0; i < N; i++) y[t][i] = wasm_i32x4_splat(0);
#pragma clang loop unroll(disable)
  for (uint32_t b = 0; b < blocks; b++, v += kvBlockBytes(KvType::int8, headDim)) {
    for (int i = 0; i < N; i++) {
      Bytes x[kFours];
      for (uint32_t j = 0; j < kFours; j++) x[j] = signedAt(v + 4 * headDim * j + 16 * i);
      for (int t = 0; t < T; t++) {
        const uint8_t* w = s.weights + (h + t) * kWeightBytes + b * kFours * kFourBytes;
        V sum = pairsSigned(x[0], fourAt(w));
        for (uint32_t j = 1; j < kFours; j++) sum = wasm_i16x8_add(sum, pairsSigned(x[j], fourAt(w + j * kFourBytes)));
        y[t][i] = wasm_i32x4_add(y[t][i], wasm_i32x4_dot_i16x8(sum, ones));
      }
    }
  }
  for (int t = 0; t < T; t++) {
    for (int i = 0; i < N; i++) {
      float* sum = s.sums + (h + t) * headDim + d + 4 * i;
      store(sum, add(load(sum), mul(wasm_f32x4_convert_i32x4(y[t][i]), splat(s.factor[h + t]))));
    }
  }
}

// A byte of every line of so many blocks, all blocks at once: prefetchers do not run ahead while a line is computed with.
LUTRA_INLINE void readIn(const uint8_t* kv, uint32_t blocks, size_t stride) {
  for (size_t i = 0; i < stride; i += 64) {
    for (uint32_t b = 0; b < blocks; b++) static_cast<void>(*static_cast<const volatile uint8_t*>(kv + b * stride + i));
  }
}

void attendFew(float* out, const float* q, uint32_t heads, const uint8_t* kv, uint32_t last, uint32_t headDim, float* scratch) {
  const size_t stride = kvBlockBytes(KvType::int8, headDim);
  Heads s;
  s.headDim = headDim, s.qBytes = roundUp(headDim, kSegment) / kSegment * kSegmentBytes;
  s.scores = scratch;
  s.sums = s.scores + heads * kAttendChunk;
  s.weights = reinterpret_cast<uint8_t*>(s.sums + heads * headDim);
  s.q = s.weights + heads * kWeightBytes;
  for (uint32_t h = 0; h < heads; h++) startHead(s, h, q + h * headDim);
  // Two heads share what they load.
  const auto inTwos = [&](auto work) LUTRA_LAMBDA {
    uint32_t h = 0;
    for (; h + 2 <= heads; h += 2) work.template operator()<2>(h);
    if (h < heads) work.template operator()<1>(h);
  };
  for (uint32_t first = 0; first <= last; first += kAttendChunk, kv += kAttendChunk / KV_BLOCK * stride) {
    const uint32_t n = last + 1 - first < kAttendChunk ? last + 1 - first : kAttendChunk, blocks = roundUp(n, KV_BLOCK) / KV_BLOCK;
    readIn(kv, blocks, stride);
    inTwos([&]<int T>(uint32_t h) LUTRA_LAMBDA { scoreChunk<T>(s, h, kv, n); });
    for (uint32_t h = 0; h < heads; h++) weigh(s, h, kv, n);
    for (uint32_t h = 0; h < heads; h++) roundWeights(s, h, n);
    uint32_t d = 0;
    for (; d + 16 <= headDim; d += 16) inTwos([&]<int T>(uint32_t h) LUTRA_LAMBDA { addValues<T, 4>(s, h, kv, blocks, d); });
    if (d < headDim) inTwos([&]<int T>(uint32_t h) LUTRA_LAMBDA { addValues<T, 2>(s, h, kv, blocks, d); });
  }
  for (uint32_t h = 0; h < heads; h++, out += headDim) {
    float* sums = s.sums + h * headDim;
    hadamardV(sums, headDim);
    const V inverse = splat(1.0f / (s.total[h] * static_cast<float>(powerIn(headDim))));
    for (uint32_t d = 0; d < headDim; d += 4) store(out + d, mul(load(sums + d), inverse));
  }
}

}  // namespace

// headDim is a multiple of 8.
void attendInt8(float* out, const float* q, uint32_t heads, const uint8_t* kv, uint32_t last, uint32_t headDim, float* scratch) {
  for (uint32_t h = 0; h < heads; h += kAttendHeads) {
    attendFew(out + h * headDim, q + h * headDim, heads - h < kAttendHeads ? heads - h : kAttendHeads, kv, last, headDim, scratch);
  }
}

}  // namespace lutra::kernels

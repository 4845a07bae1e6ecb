// Preparation of activations: scales, int8 and int16 rounding, lookup tables. Formulas: reference/prepare.cc.
// Bound: instructions; done once per vector, so a few per cent of a decode step (docs/performance.md).
#include "kernels/kernels.h"
#include "simd/v128.h"

namespace lutra::kernels {
namespace {

constexpr float kTiny = 1e-30f;
LUTRA_INLINE float reciprocal(float d) { return d < kTiny ? 0.0f : 1.0f / d; }

// x is padded with zeros beyond n to a multiple of 128, so whole vectors give the reference's result.
LUTRA_INLINE float absMax(const float* x, uint32_t n) {
  V m = splat(0);
  for (uint32_t i = 0; i < n; i += 4) m = larger(m, wasm_f32x4_abs(load(x + i)));
  return largestV(m);
}

LUTRA_INLINE V roundToInt(V x) { return wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(x)); }

// int16 lanes j = sum over the signs in bits of j: entries 0..7 have -q3, 8..15 have +q3.
LUTRA_INLINE void exactTable(uint8_t* table, V q) {
  const V q16 = wasm_i16x8_narrow_i32x4(q, q);
  const V q0 = wasm_i16x8_shuffle(q16, q16, 0, 0, 0, 0, 0, 0, 0, 0), q1 = wasm_i16x8_shuffle(q16, q16, 1, 1, 1, 1, 1, 1, 1, 1);
  const V q2 = wasm_i16x8_shuffle(q16, q16, 2, 2, 2, 2, 2, 2, 2, 2), q3 = wasm_i16x8_shuffle(q16, q16, 3, 3, 3, 3, 3, 3, 3, 3);
  const V s0 = wasm_i16x8_make(-1, 1, -1, 1, -1, 1, -1, 1), s1 = wasm_i16x8_make(-1, -1, 1, 1, -1, -1, 1, 1);
  const V s2 = wasm_i16x8_make(-1, -1, -1, -1, 1, 1, 1, 1);
  const V sum = wasm_i16x8_add(wasm_i16x8_add(wasm_i16x8_splat(512), wasm_i16x8_mul(q0, s0)),
                               wasm_i16x8_add(wasm_i16x8_mul(q1, s1), wasm_i16x8_mul(q2, s2)));
  const V low = wasm_i16x8_sub(sum, q3), high = wasm_i16x8_add(sum, q3), seven = wasm_i16x8_splat(127);
  store(table, wasm_u8x16_narrow_i16x8(wasm_v128_and(low, seven), wasm_v128_and(high, seven)));
  store(table + 16, wasm_u8x16_narrow_i16x8(wasm_u16x8_shr(low, 7), wasm_u16x8_shr(high, 7)));
}

}  // namespace

void prepareF32(const float* x, uint32_t, uint32_t m, Acts& a, uint32_t begin, uint32_t end) {
  float* out = reinterpret_cast<float*>(a.table) + m * a.ld;
  for (uint32_t k = begin * a.groupSize; k < end * a.groupSize; k += 4) store(out + k, load(x + k));
}

void prepareI16(const float* x, uint32_t cols, uint32_t m, Acts& a, uint32_t begin, uint32_t end) {
  V s = splat(0);
  for (uint32_t k = 0; k < cols; k += 4) s = add(s, wasm_f32x4_abs(load(x + k)));
  const float byMax = absMax(x, cols) / 32767.0f, bySum = joinedV(s) * (1.000244140625f / 16777216.0f);
  a.scale[m] = byMax > bySum ? byMax : bySum;
  const V inverse = splat(reciprocal(a.scale[m]));
  int16_t* out = reinterpret_cast<int16_t*>(a.table) + m * a.ld;
  for (uint32_t k = begin * a.groupSize; k < end * a.groupSize; k += 8) {
    store(out + k, wasm_i16x8_narrow_i32x4(roundToInt(mul(load(x + k), inverse)), roundToInt(mul(load(x + k + 4), inverse))));
  }
}

void prepareI8(const float* x, uint32_t cols, uint32_t m, Acts& a, uint32_t begin, uint32_t end) {
  const float peak = absMax(x, cols), bounded = peak < 1e-5f ? 1e-5f : peak;
  const V inverse = splat(127.0f / bounded);
  a.scale[m] = bounded / 127.0f;
  const uint32_t quads = a.groupSize / 4;
  for (uint32_t g = begin; g < end; g++) {
    uint8_t* table = a.table + (g * a.m + m) * quads * 32;
    for (uint32_t t = 0; t < quads; t++) exactTable(table + t * 32, roundToInt(mul(load(x + g * a.groupSize + t * 4), inverse)));
  }
}

namespace {

// Together: columns whose entries share a byte; most: the largest entry; Bias, down: what is added to an entry and taken off
// before rounding; unit of the sums (reference/prepare.cc).
template <uint32_t Together, uint32_t Bias>
LUTRA_INLINE void prepareLut(const float* x, uint32_t m, Acts& a, uint32_t begin, uint32_t end, float most, float down, float unit) {
  const uint32_t quads = a.groupSize / 4;
  const V lowered = splat(down);
  const V s0 = wasm_f32x4_make(-1, 1, -1, 1), s1 = wasm_f32x4_make(-1, -1, 1, 1);
  // Adding 1.5 * 2^23 + bias rounds to even and leaves the integer + bias in the low bits.
  const V magic = splat(12582912.0f + static_cast<float>(Bias));
  for (uint32_t g = begin; g < end; g++) {
    const float* v = x + g * a.groupSize;
    V peaks = splat(0), s = splat(0);
    for (uint32_t o = 0; o < a.groupSize; o += Together) {
      V size = splat(0);
      for (uint32_t k = 0; k < Together; k += 4) {
        size = add(size, wasm_f32x4_abs(load(v + o + k)));
        s = add(s, load(v + o + k));
      }
      size = add(size, wasm_i32x4_shuffle(size, size, 2, 3, 0, 1));
      peaks = larger(peaks, add(size, wasm_i32x4_shuffle(size, size, 1, 0, 3, 2)));
    }
    const float d = (lane0(peaks) * 0.5f) / most, inverse = reciprocal(d), sum = joinedV(s);
    const uint32_t at = g * a.m + m;
    a.scale[at] = d < kTiny ? 0.0f : unit * d;
    a.sum[at] = sum;
    a.sumq[at] = static_cast<int32_t>(nearest(sum * (inverse / unit)));
    const V half = splat(0.5f * inverse);
    uint8_t* table = a.table + at * quads * 16;
    for (uint32_t t = 0; t < quads; t++) {
      const V q = mul(load(v + t * 4), half);
      const V q0 = wasm_i32x4_shuffle(q, q, 0, 0, 0, 0), q1 = wasm_i32x4_shuffle(q, q, 1, 1, 1, 1);
      const V q2 = wasm_i32x4_shuffle(q, q, 2, 2, 2, 2), q3 = wasm_i32x4_shuffle(q, q, 3, 3, 3, 3);
      const V low = sub(add(mul(q0, s0), mul(q1, s1)), lowered), both = add(q3, q2), differ = sub(q3, q2);
      const V e0 = add(sub(low, both), magic), e1 = add(sub(low, differ), magic);
      const V e2 = add(add(low, differ), magic), e3 = add(add(low, both), magic);
      const V lower = wasm_i16x8_shuffle(e0, e1, 0, 2, 4, 6, 8, 10, 12, 14), upper = wasm_i16x8_shuffle(e2, e3, 0, 2, 4, 6, 8, 10, 12, 14);
      store(table + t * 16, wasm_i8x16_shuffle(lower, upper, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30));
    }
  }
}

}  // namespace

void prepareLut7(const float* x, uint32_t, uint32_t m, Acts& a, uint32_t begin, uint32_t end) { prepareLut<8, 64>(x, m, a, begin, end, 126.0f, 0.125f, 2.0f); }
void prepareLut8(const float* x, uint32_t, uint32_t m, Acts& a, uint32_t begin, uint32_t end) { prepareLut<4, 128>(x, m, a, begin, end, 126.5f, 0.0f, 1.0f); }

void prepareExact(const float* x, uint32_t, uint32_t m, Acts& a, uint32_t begin, uint32_t end) {
  const uint32_t quads = a.groupSize / 4;
  for (uint32_t g = begin; g < end; g++) {
    const float* v = x + g * a.groupSize;
    const float d = absMax(v, a.groupSize) / 127.0f;
    const V inverse = splat(reciprocal(d));
    const uint32_t at = g * a.m + m;
    V totals = wasm_i32x4_splat(0);
    for (uint32_t t = 0; t < quads; t++) {
      const V q = roundToInt(mul(load(v + t * 4), inverse));
      totals = wasm_i32x4_add(totals, q);
      exactTable(a.table + (at * quads + t) * 32, q);
    }
    const int32_t total = (wasm_i32x4_extract_lane(totals, 0) + wasm_i32x4_extract_lane(totals, 1)) +
                          (wasm_i32x4_extract_lane(totals, 2) + wasm_i32x4_extract_lane(totals, 3));
    a.scale[at] = d < kTiny ? 0.0f : d * 0.5f;
    a.sum[at] = d < kTiny ? 0.0f : d * static_cast<float>(total);
    a.sumq[at] = 2 * total;
  }
}

}  // namespace lutra::kernels

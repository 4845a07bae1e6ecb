// Bit planes with a scale each: HLQ at 1-4 bits, groups of any size, and ternary.
//
//   y = sum over groups of  scale * sum_p s_p I_p + z' * sum
//
// Layout: docs/format.md; I_p and its bound: lookup.h.
#include "kernels/kernels.h"
#include "kernels/lookup.h"
#include "kernels/sweep.h"

extern "C" {
// Loaded, not written as a constant: V8 would rebuild the constant at every use inside the loop.
__attribute__((visibility("default"), used)) uint8_t kNibbles[16] = {15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15};
}

namespace lutra::kernels {
namespace {

template <int P, Prep A, Coding C> struct Planes {
  const Part& w;
  const Acts& a;
  // Here, as what lies behind a reference is loaded and divided again at every step.
  const uint32_t groupSize = w.groupSize, firstGroup = w.colBegin / w.groupSize, vectors = a.m;
  static constexpr uint32_t kStreams = kMostStreams, kTogether = P <= 2 ? 2 : 1, kSums = 1;  // as far as the registers go

  uint32_t chunks() const { return roundUp(w.cols, w.groupSize) / w.groupSize; }
  size_t chunkBytes() const { return groupBytes(P, w.groupSize, P + 1, C); }
  void finish(const float* sums, float* out, uint32_t, uint32_t) const { copySums(sums, out); }

  template <int R, int T> LUTRA_INLINE void step(const uint8_t* const* tiles, RowSums<kSums>* const* sums, uint32_t chunk, uint32_t m) const {
    const uint32_t at = (firstGroup + chunk) * vectors + m, octets = groupSize / 8;
    const size_t stride = static_cast<size_t>(groupSize) / 4 * tableBytes(A);
    Sums I[R * T][P];
    lookUp<P, A, true, R, T>(tiles, a.table + at * stride, stride, octets, I);
#pragma unroll
    for (int i = 0; i < R * T; i++) {
      const int r = i / T, t = i % T;
      const uint8_t* parameters = tiles[r] + octets * P * TILE_ROWS;
      float* y = sums[r][t].at;
      if constexpr (C == Coding::i16) addInteger(parameters, I[i], a.sumq[at + t], a.scale + at + t, y);
      else addFloat(parameters, I[i], a.sum + at + t, a.scale + at + t, y);
    }
  }

  // sum_p s_p I_p + z' sumq as 16-bit products summed in pairs of planes; wraps like the reference.
  LUTRA_INLINE void addInteger(const uint8_t* parameters, const Sums* I, int32_t sumq, const float* scale, float* y) const {
    const V xs = wasm_i32x4_splat(sumq & 0xffff), vs = splatAt(scale);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const auto value = [&](int v) { return load(parameters + (v * TILE_ROWS + 8 * half) * 2); };
      const auto sum = [&](int p) { return half ? I[p].high : I[p].low; };
      const uint8_t* z = parameters + (P * TILE_ROWS + 8 * half) * 2;
      V low = wasm_i32x4_dot_i16x8(wasm_i32x4_load16x4(z), xs);
      V high = wasm_i32x4_dot_i16x8(wasm_i32x4_load16x4(z + 8), xs);
#pragma unroll
      for (int p = 0; p + 1 < P; p += 2) {
        const V a0 = sum(p), a1 = sum(p + 1), q0 = value(p), q1 = value(p + 1);
        low = wasm_i32x4_add(low, wasm_i32x4_dot_i16x8(wasm_i16x8_shuffle(a0, a1, 0, 8, 1, 9, 2, 10, 3, 11),
                                                       wasm_i16x8_shuffle(q0, q1, 0, 8, 1, 9, 2, 10, 3, 11)));
        high = wasm_i32x4_add(high, wasm_i32x4_dot_i16x8(wasm_i16x8_shuffle(a0, a1, 4, 12, 5, 13, 6, 14, 7, 15),
                                                         wasm_i16x8_shuffle(q0, q1, 4, 12, 5, 13, 6, 14, 7, 15)));
      }
      if constexpr (P % 2 == 1) {
        const V a0 = sum(P - 1), q0 = value(P - 1);
        low = wasm_i32x4_add(low, wasm_i32x4_extmul_low_i16x8(a0, q0));
        high = wasm_i32x4_add(high, wasm_i32x4_extmul_high_i16x8(a0, q0));
      }
      store(y + 8 * half, add(load(y + 8 * half), mul(wasm_f32x4_convert_i32x4(low), vs)));
      store(y + 8 * half + 4, add(load(y + 8 * half + 4), mul(wasm_f32x4_convert_i32x4(high), vs)));
    }
  }

  LUTRA_INLINE void addFloat(const uint8_t* parameters, const Sums* I, const float* total, const float* scale, float* y) const {
    const V vx = splatAt(total), vs = splatAt(scale);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      V sum = splat(0), middle = splat(0);
#pragma unroll
      for (int p = 0; p < P; p++) {
        const V s = parameter<C>(parameters, p, i);
        sum = add(sum, mul(floats(I[p], i), s));
        middle = add(middle, s);
      }
      const V z = add(parameter<C>(parameters, P, i), mul(middle, splat(0.5f)));
      store(y + 4 * i, add(add(load(y + 4 * i), mul(z, vx)), mul(sum, vs)));
    }
  }
};

// plane 0: w = +1, plane 1: w = -1. Sums of w q are exact in float; the activations' one scale comes last.
template <Coding C> struct Ternary {
  const Part& w;
  const Acts& a;
  const uint32_t groupSize = w.groupSize, firstGroup = w.colBegin / w.groupSize, vectors = a.m;
  static constexpr uint32_t kStreams = kMostStreams, kTogether = 1, kSums = 1;

  uint32_t chunks() const { return roundUp(w.cols, w.groupSize) / w.groupSize; }
  size_t chunkBytes() const { return groupBytes(2, w.groupSize, C == Coding::none ? 0 : 1, C); }

  template <int R, int T> LUTRA_INLINE void step(const uint8_t* const* tiles, RowSums<kSums>* const* sums, uint32_t chunk, uint32_t m) const {
    const uint32_t at = (firstGroup + chunk) * vectors + m, octets = groupSize / 8;
    const size_t stride = static_cast<size_t>(groupSize) / 4 * tableBytes(Prep::i8);
    Sums I[R * T][2];
    lookUp<2, Prep::i8, false, R, T>(tiles, a.table + at * stride, stride, octets, I);
#pragma unroll
    for (int i = 0; i < R * T; i++) {
      const int r = i / T, t = i % T;
      // Even and at most 2 * 127 * 128, so neither the difference nor the halving loses a bit.
      const Sums d = {wasm_i16x8_shr(wasm_i16x8_sub(I[i][0].low, I[i][1].low), 1),
                      wasm_i16x8_shr(wasm_i16x8_sub(I[i][0].high, I[i][1].high), 1)};
      float* y = sums[r][t].at;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        V f = floats(d, j);
        if constexpr (C != Coding::none) f = mul(f, parameter<C>(tiles[r] + octets * 2 * TILE_ROWS, 0, j));
        store(y + 4 * j, add(load(y + 4 * j), f));
      }
    }
  }

  LUTRA_INLINE void finish(const float* sums, float* out, uint32_t m, uint32_t) const {
    const V d = splatAt(a.scale + m);
    for (uint32_t i = 0; i < TILE_ROWS; i += 4) store(out + i, mul(load(sums + i), d));
  }
};

}  // namespace

template <int P, Prep A, Coding C>
void matMulPlanes(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end) {
  sweep(Planes<P, A, C>{w, a}, w, a, out, ld, begin, end);
}
template <Coding C>
void matMulTernary(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end) {
  sweep(Ternary<C>{w, a}, w, a, out, ld, begin, end);
}

#define LUTRA_PLANES(P, A)                                                                                   \
  template void matMulPlanes<P, A, Coding::f32>(const Part&, const Acts&, float*, uint32_t, uint32_t, uint32_t); \
  template void matMulPlanes<P, A, Coding::f16>(const Part&, const Acts&, float*, uint32_t, uint32_t, uint32_t); \
  template void matMulPlanes<P, A, Coding::i16>(const Part&, const Acts&, float*, uint32_t, uint32_t, uint32_t);
LUTRA_PLANES(1, Prep::lut7)
LUTRA_PLANES(2, Prep::lut7)
LUTRA_PLANES(3, Prep::exact)
LUTRA_PLANES(4, Prep::lut8)
template void matMulTernary<Coding::none>(const Part&, const Acts&, float*, uint32_t, uint32_t, uint32_t);
template void matMulTernary<Coding::f32>(const Part&, const Acts&, float*, uint32_t, uint32_t, uint32_t);
template void matMulTernary<Coding::f16>(const Part&, const Acts&, float*, uint32_t, uint32_t, uint32_t);

}  // namespace lutra::kernels

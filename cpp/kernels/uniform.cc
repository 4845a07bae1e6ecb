// Bit planes with uniform levels: one scale and one offset for each row and group, 1-6 planes, parameters in several codings.
//
//   y = sum over groups of  scale * s D + offset * sum,   D = sum_p 2^p I_p        in the order of reference/uniform.cc
//
// Layout: docs/format.md; I_p and its bound: lookup.h. Bound of the rest: 16 rows of a group take 40 vector instructions
// for 2 planes in coding i6, 75 for 4, and as many loads and stores of sums: a third of the work in groups of 32.
#include "kernels/kernels.h"
#include "kernels/lookup.h"
#include "kernels/sweep.h"

namespace lutra::kernels {
namespace {

// 16 integers of 16 bits in row order.
struct Words {
  V low, high;
};
LUTRA_INLINE Words words(V i8) { return {wasm_i16x8_extend_low_i8x16(i8), wasm_i16x8_extend_high_i8x16(i8)}; }
LUTRA_INLINE V product(const Words& a, const Words& b, int i) {
  const V x = i < 2 ? a.low : a.high, y = i < 2 ? b.low : b.high;
  return i & 1 ? wasm_i32x4_extmul_high_i16x8(x, y) : wasm_i32x4_extmul_low_i16x8(x, y);
}
// a0 b0 a1 b1 … of rows 4i .. 4i + 3
LUTRA_INLINE V interleaved(const Words& a, const Words& b, int i) {
  const V x = i < 2 ? a.low : a.high, y = i < 2 ? b.low : b.high;
  return i & 1 ? wasm_i16x8_shuffle(x, y, 4, 12, 5, 13, 6, 14, 7, 15) : wasm_i16x8_shuffle(x, y, 0, 8, 1, 9, 2, 10, 3, 11);
}
LUTRA_INLINE Words shifted(const Words& a, int n) { return {wasm_i16x8_shl(a.low, n), wasm_i16x8_shl(a.high, n)}; }

// q D of rows 4i .. 4i + 3: exact integers.
template <int P> LUTRA_INLINE V scaledSum(const Sums* I, const Words& q, int i) {
  const auto sum = [&](int p) { return Words{I[p].low, I[p].high}; };
  if constexpr (P == 2) {  // rounded sums, small enough to be added as they are
    return product({wasm_i16x8_add(I[0].low, wasm_i16x8_shl(I[1].low, 1)), wasm_i16x8_add(I[0].high, wasm_i16x8_shl(I[1].high, 1))}, q, i);
  } else {
    V total = wasm_i32x4_splat(0);
    if constexpr (P >= 2) {
      const V pair = interleaved(q, shifted(q, 1), i);
#pragma unroll
      for (int p = 0; p + 1 < P; p += 2) {
        total = wasm_i32x4_add(total, wasm_i32x4_dot_i16x8(interleaved(sum(p), sum(p + 1), i), wasm_i16x8_shl(pair, p)));
      }
    }
    if constexpr (P % 2 == 1) total = wasm_i32x4_add(total, product(sum(P - 1), shifted(q, P - 1), i));
    return total;
  }
}

LUTRA_INLINE V toFloats(V i32) { return wasm_f32x4_convert_i32x4(i32); }
LUTRA_INLINE V halves(const uint8_t* p, int i) { return halfToFloatV(wasm_u32x4_load16x4(p + 8 * i)); }
LUTRA_INLINE void addTo(float* y, int i, V v) { store(y + 4 * i, add(load(y + 4 * i), v)); }

// Scales and offsets of 16 rows in small integers.
struct Small {
  V scale, offset;  // i8
};
template <Coding C> LUTRA_INLINE Small small(const uint8_t* p) {
  const V v = load(p), nibbles = load(kNibbles);
  if constexpr (C == Coding::k8) return {v, v};
  if constexpr (C == Coding::k4) return {wasm_v128_and(v, nibbles), wasm_v128_and(wasm_u16x8_shr(v, 4), nibbles)};
  const V n = wasm_v128_load64_zero(p + TILE_ROWS);
  const V low = wasm_i64x2_shuffle(wasm_v128_and(n, nibbles), wasm_v128_and(wasm_u16x8_shr(n, 4), nibbles), 0, 2);
  const V six = wasm_v128_or(low, wasm_v128_and(wasm_u16x8_shr(v, 2), wasm_i8x16_splat(0x30)));
  return {wasm_v128_and(v, wasm_i8x16_splat(63)), C == Coding::i6 ? wasm_i8x16_sub(six, wasm_i8x16_splat(32)) : six};
}

template <int P, Prep A, Coding C> struct Uniform {
  const Part& w;
  const Acts& a;
  static constexpr bool kBlocks = blockBytes(C) != 0;
  static constexpr uint32_t kStreams = kMostStreams, kTogether = 1, kSums = C == Coding::i6 ? 2 : 1;

  uint32_t chunkColumns() const { return kBlocks ? BLOCK_COLUMNS : w.groupSize; }
  uint32_t chunks() const { return roundUp(w.cols, chunkColumns()) / chunkColumns(); }
  size_t chunkBytes() const { return chunkColumns() / w.groupSize * uniformGroupBytes(P, w.groupSize, C) + blockBytes(C); }

  template <int R, int T> LUTRA_INLINE void step(const uint8_t* const* tiles, RowSums<kSums>* const* sums, uint32_t chunk, uint32_t m) const {
    static_assert(R == 1);
    const uint32_t columns = chunkColumns(), octets = w.groupSize / 8;
    const size_t stride = static_cast<size_t>(w.groupSize) / 4 * tableBytes(A);
    const uint8_t* group = tiles[0];
    RowSums<2> block[T];  // u and t of the reference
    if constexpr (kBlocks) for (int t = 0; t < T; t++) for (int i = 0; i < 8; i++) store(block[t].at + 4 * i, splat(0));
    uint32_t at = (w.colBegin + chunk * columns) / w.groupSize * a.m + m;
    for (uint32_t k = 0; k < columns; k += w.groupSize, at += a.m) {
      Sums I[T][P];
      lookUp<P, A, false, 1, T>(&group, a.table + at * stride, stride, octets, I);
      const uint8_t* p = group + octets * P * TILE_ROWS;
      if constexpr (kBlocks) addInBlock<T>(p, I, at, block);
      else addGroup<T>(p, I, at, sums[0]);
      group += uniformGroupBytes(P, w.groupSize, C);
    }
    if constexpr (kBlocks) {
      for (int i = 0; i < 4; i++) {
        const V d = mul(halves(group, i), splat(0.5f));
        for (int t = 0; t < T; t++) {
          addTo(sums[0][t].at, i, mul(load(block[t].at + 4 * i), d));
          if constexpr (C != Coding::k8) {
            store(sums[0][t].at + 4 * i, sub(load(sums[0][t].at + 4 * i), mul(load(block[t].at + TILE_ROWS + 4 * i), halves(group + 2 * TILE_ROWS, i))));
          }
        }
      }
    }
  }

  template <int T> LUTRA_INLINE void addGroup(const uint8_t* p, const Sums (*I)[P], uint32_t at, RowSums<kSums>* y) const {
    if constexpr (C == Coding::i6) {
      const Small s = small<C>(p);
      const Words scale = words(s.scale), offset = words(s.offset), one = {wasm_i16x8_splat(1), wasm_i16x8_splat(1)};
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const V c = toFloats(product(offset, one, i));
#pragma unroll
        for (int t = 0; t < T; t++) {
          addTo(y[t].at, i, mul(toFloats(scaledSum<P>(I[t], scale, i)), splatAt(a.scale + at + t)));
          addTo(y[t].at + TILE_ROWS, i, mul(c, splatAt(a.sum + at + t)));
        }
      }
    } else {
      const Words one = {wasm_i16x8_splat(1), wasm_i16x8_splat(1)};
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const V s = parameter<C>(p, 0, i);
#pragma unroll
        for (int t = 0; t < T; t++) {
          const V d = scaledSum<P>(I[t], one, i), scale = splatAt(a.scale + at + t);
          if constexpr (C == Coding::f16mid) {
            const V twice = wasm_i32x4_sub(wasm_i32x4_shl(d, 1), wasm_v128_load32_splat(a.sumq + at + t));
            addTo(y[t].at, i, mul(mul(toFloats(twice), mul(s, splat(0.5f))), scale));
          } else {
            const V z = add(parameter<C>(p, 1, i), mul(s, splat(0.5f * ((1 << P) - 1))));
            addTo(y[t].at, i, mul(z, splatAt(a.sum + at + t)));
            addTo(y[t].at, i, mul(mul(toFloats(d), s), scale));
          }
        }
      }
    }
  }

  template <int T> LUTRA_INLINE void addInBlock(const uint8_t* p, const Sums (*I)[P], uint32_t at, RowSums<2>* block) const {
    const Small s = small<C>(p);
    const Words scale = words(s.scale), offset = words(s.offset), one = {wasm_i16x8_splat(1), wasm_i16x8_splat(1)};
    const V k = wasm_i16x8_splat(C == Coding::k8 ? -1 : (1 << P) - 1);
    const Words times = {wasm_i16x8_mul(scale.low, k), wasm_i16x8_mul(scale.high, k)};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const V mn = toFloats(product(offset, one, i));
#pragma unroll
      for (int t = 0; t < T; t++) {
        const V sumq = wasm_i16x8_splat(static_cast<int16_t>(a.sumq[at + t]));
        const V u = wasm_i32x4_add(wasm_i32x4_shl(scaledSum<P>(I[t], scale, i), 1), product(times, {sumq, sumq}, i));
        addTo(block[t].at, i, mul(toFloats(u), splatAt(a.scale + at + t)));
        if constexpr (C != Coding::k8) addTo(block[t].at + TILE_ROWS, i, mul(mn, splatAt(a.sum + at + t)));
      }
    }
  }

  LUTRA_INLINE void finish(const float* sums, float* out, uint32_t, uint32_t tile) const {
    if constexpr (C == Coding::i6) {
      const uint8_t* p = w.rowScale + static_cast<size_t>(tile) * 64;
      for (int i = 0; i < 4; i++) {
        store(out + 4 * i, add(mul(load(sums + 4 * i), halves(p, i)), mul(load(sums + TILE_ROWS + 4 * i), halves(p + 2 * TILE_ROWS, i))));
      }
    } else {
      copySums(sums, out);
    }
  }
};

}  // namespace

template <int P, Prep A, Coding C>
void matMulUniform(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end) {
  sweep(Uniform<P, A, C>{w, a}, w, a, out, ld, begin, end);
}

#define LUTRA_UNIFORM(P, A, C) \
  template void matMulUniform<P, Prep::A, Coding::C>(const Part&, const Acts&, float*, uint32_t, uint32_t, uint32_t);
LUTRA_UNIFORM(1, lut7, i6)
LUTRA_UNIFORM(2, lut7, i6)
LUTRA_UNIFORM(3, exact, i6)
LUTRA_UNIFORM(4, lut8, i6)
LUTRA_UNIFORM(2, lut7, f32)
LUTRA_UNIFORM(3, exact, f32)
LUTRA_UNIFORM(4, lut8, f32)
LUTRA_UNIFORM(4, lut8, f16)
LUTRA_UNIFORM(5, lut8, f16)
LUTRA_UNIFORM(4, lut8, f16mid)
LUTRA_UNIFORM(5, lut8, f16mid)
LUTRA_UNIFORM(2, lut7, k4)
LUTRA_UNIFORM(4, lut8, k6)
LUTRA_UNIFORM(5, lut8, k6)
LUTRA_UNIFORM(3, exact, k8)
LUTRA_UNIFORM(6, lut8, k8)

}  // namespace lutra::kernels

// Sums of bit planes by table lookup (the idea of T-MAC): what planes.cc and uniform.cc share.
//
//   I_p = sum of the table entries that the bits of plane p select, over a group of columns
//
// 16 rows lie side by side, a byte holds 8 columns of a row, so one swizzle looks up 4 columns of 16 rows. Per plane and
// octet: load, split nibbles, two lookups, then by the kind of tables (Prep)
//   lut7  entries are so small that two add within a byte, and biased: T += their sum as int16, H += the high bytes; at the
//         end rows 0-7 are T - (H << 8) and rows 8-15 are H. T and H start at minus the bias, which is then free
//   lut8  the same for each entry by itself
//   i8, exact  sums of int8 in 10 bits: the lower 7 like lut7, the upper three from a second table: X += its bytes
//
// Bound: 9 vector instructions per plane, octet and vector of activations for lut7, 11 for lut8, 13 for exact sums.
#pragma once
#include "ops.h"
#include "simd/v128.h"

// Loaded, not written as a constant: V8 would rebuild the constant at every use inside the loop.
extern "C" uint8_t kNibbles[16];

namespace lutra::kernels {

// Sums of one plane over a group, int16, in row order.
struct Sums {
  V low, high;  // rows 0-7, 8-15
};

// I[i][p] for a group of N (tile, vector) pairs: R tiles by one vector, or one tile by T vectors; what they share is
// loaded once. w[r]: codes of the tiles; table: the first vector's tables of this group, the next `stride` bytes on.
template <int P, Prep A, int R, int T>
LUTRA_INLINE void lookUp(const uint8_t* const* tiles, const uint8_t* table, size_t stride, uint32_t octets, Sums (*I)[P]) {
  constexpr int N = R * T;
  constexpr int kBias = 2 * (A == Prep::lut7 ? 64 : A == Prep::lut8 ? 128 : 512);  // of the two entries of an octet
  constexpr int kTable = tableBytes(A);
  const V nibbles = load(kNibbles);
  V t16[N][P], h16[N][P], x16[N][P];
  const uint8_t* w[R];
  for (int r = 0; r < R; r++) w[r] = tiles[r];
  // Exact sums: the bias is taken off after the halves are joined (it does not fit the low half).
  const V t0 = wasm_i16x8_splat(static_cast<int16_t>(isExact(A) ? 0 : -static_cast<int>(octets) * kBias * 257));
  const V h0 = wasm_i16x8_splat(static_cast<int16_t>(isExact(A) ? 0 : -static_cast<int>(octets) * kBias));
  for (int i = 0; i < N; i++) {
    for (int p = 0; p < P; p++) t16[i][p] = t0, h16[i][p] = h0, x16[i][p] = wasm_i32x4_splat(0);
  }
#pragma clang loop unroll(disable)
  for (uint32_t o = 0; o < octets; o++) {
#pragma unroll
    for (int r = 0; r < R; r++) {
#pragma unroll
      for (int p = 0; p < P; p++) {
        const V v = load(w[r] + p * TILE_ROWS);
        const V low = wasm_v128_and(v, nibbles), high = wasm_v128_and(wasm_u16x8_shr(v, 4), nibbles);
#pragma unroll
        for (int t = 0; t < T; t++) {
          const int i = r * T + t;
          const uint8_t* e = table + t * stride;
          const V first = swizzle(load(e), low), second = swizzle(load(e + kTable), high);
          if constexpr (A == Prep::lut8) {
            t16[i][p] = wasm_i16x8_add(t16[i][p], wasm_i16x8_add(first, second));
            h16[i][p] = wasm_i16x8_add(h16[i][p], wasm_i16x8_add(wasm_u16x8_shr(first, 8), wasm_u16x8_shr(second, 8)));
          } else {
            const V sum = wasm_i8x16_add(first, second);
            t16[i][p] = wasm_i16x8_add(t16[i][p], sum);
            h16[i][p] = wasm_i16x8_add(h16[i][p], wasm_u16x8_shr(sum, 8));
          }
          if constexpr (isExact(A)) x16[i][p] = wasm_i8x16_add(x16[i][p], wasm_i8x16_add(swizzle(load(e + 16), low), swizzle(load(e + 48), high)));
        }
      }
      w[r] += P * TILE_ROWS;
    }
    table += 2 * kTable;
  }
  for (int i = 0; i < N; i++) {
    for (int p = 0; p < P; p++) {
      V low = wasm_i16x8_sub(t16[i][p], wasm_i16x8_shl(h16[i][p], 8)), high = h16[i][p];
      if constexpr (isExact(A)) {
        // x16 holds bytes <= 14 per octet, 224 per 128 columns: rows 0-7 in the even, 8-15 in the odd bytes.
        const V bias = wasm_i16x8_splat(static_cast<int16_t>(octets * kBias));
        low = wasm_i16x8_sub(wasm_i16x8_add(low, wasm_i16x8_shl(wasm_v128_and(x16[i][p], wasm_i16x8_splat(255)), 7)), bias);
        high = wasm_i16x8_sub(wasm_i16x8_add(high, wasm_i16x8_shl(wasm_u16x8_shr(x16[i][p], 8), 7)), bias);
      }
      I[i][p] = {low, high};
    }
  }
}

LUTRA_INLINE V floatsLow(V i16) { return wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(i16)); }
LUTRA_INLINE V floatsHigh(V i16) { return wasm_f32x4_convert_i32x4(wasm_i32x4_extend_high_i16x8(i16)); }

// Four of the 16 sums of a plane, rows 4i .. 4i + 3, as floats.
LUTRA_INLINE V floats(const Sums& s, int i) {
  const V half = i < 2 ? s.low : s.high;
  return i & 1 ? floatsHigh(half) : floatsLow(half);
}

// Parameter v of rows 4i .. 4i + 3.
template <Coding C> LUTRA_INLINE V parameter(const uint8_t* p, int v, int i) {
  if constexpr (C == Coding::f32) return load(p + (v * TILE_ROWS + 4 * i) * 4);
  else return halfToFloatV(wasm_u32x4_load16x4(p + (v * TILE_ROWS + 4 * i) * 2));
}

}  // namespace lutra::kernels

// Sums of bit planes by table lookup (the idea of T-MAC): what planes.cc and uniform.cc share.
//
//   I_p = sum of the table entries that the bits of plane p select, over a group of columns
//
// 16 rows lie side by side, a byte holds 8 columns of a row, so one swizzle looks up 4 columns of 16 rows. Per plane and
// octet: load, split nibbles, two lookups, then by the kind of tables (Prep)
//   lut7  entries are so small that two add within a byte; of two octets' bytes the average (rounded up: half the sum)
//   lut8  both by themselves, or (Averaged) of the two the average, save in the highest plane, which counts most
//   i8, exact  sums of int8 in 10 bits: the lower 7 as bytes, the upper three from a second table: X += its bytes
// Bytes are biased and summed in two halves: T += bytes as int16, H += the high bytes; at the end rows 0-7 are T - (H << 8)
// and rows 8-15 are H. T and H start at minus the bias, which is then free.
//
// Bound: vector instructions per plane, octet and vector of activations: 8 for lut7, 11 (averaged: 9) for lut8, 13 exact.
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

// Is a plane's sum made of averages?
constexpr bool averages(Prep prep, bool averaged, int planes, int p) {
  return prep == Prep::lut7 || (prep == Prep::lut8 && averaged && p + 1 < planes);
}

// I[i][p] for a group of N (tile, vector) pairs: R tiles by one vector, or one tile by T vectors; what they share is
// loaded once. w[r]: codes of the tiles; table: the first vector's tables of this group, the next `stride` bytes on.
template <int P, Prep A, bool Averaged, int R, int T>
LUTRA_INLINE void lookUp(const uint8_t* const* tiles, const uint8_t* table, size_t stride, uint32_t octets, Sums (*I)[P]) {
  constexpr int N = R * T;
  constexpr int kTogether = A == Prep::lut7 ? 2 : 1;  // octets that make one byte
  constexpr int kTable = tableBytes(A);
  const V nibbles = load(kNibbles);
  V t16[N][P], h16[N][P], x16[N][P];
  const uint8_t* w[R];
  for (int r = 0; r < R; r++) w[r] = tiles[r];
  for (int i = 0; i < N; i++) {
    for (int p = 0; p < P; p++) {
      // Exact sums: the bias is taken off after the halves are joined (it does not fit the low half).
      const int bias = isExact(A) ? 0 : -128 * static_cast<int>(octets) / kTogether * (averages(A, Averaged, P, p) ? 1 : 2);
      t16[i][p] = wasm_i16x8_splat(static_cast<int16_t>(bias * 257)), h16[i][p] = wasm_i16x8_splat(static_cast<int16_t>(bias));
      x16[i][p] = wasm_i32x4_splat(0);
    }
  }
#pragma clang loop unroll(disable)
  for (uint32_t o = 0; o < octets; o += kTogether) {
#pragma unroll
    for (int r = 0; r < R; r++) {
#pragma unroll
      for (int p = 0; p < P; p++) {
        V sum[T];
#pragma unroll
        for (int j = 0; j < kTogether; j++) {
          const V v = load(w[r] + (j * P + p) * TILE_ROWS);
          const V low = wasm_v128_and(v, nibbles), high = wasm_v128_and(wasm_u16x8_shr(v, 4), nibbles);
#pragma unroll
          for (int t = 0; t < T; t++) {
            const uint8_t* e = table + t * stride + 2 * j * kTable;
            V &whole = t16[r * T + t][p], &upper = h16[r * T + t][p];
            const V first = swizzle(load(e), low), second = swizzle(load(e + kTable), high);
            if (A == Prep::lut8 && !averages(A, Averaged, P, p)) {
              whole = wasm_i16x8_add(whole, wasm_i16x8_add(first, second));
              upper = wasm_i16x8_add(upper, wasm_i16x8_add(wasm_u16x8_shr(first, 8), wasm_u16x8_shr(second, 8)));
              continue;
            }
            const V both = A == Prep::lut8 ? wasm_u8x16_avgr(first, second) : wasm_i8x16_add(first, second);
            sum[t] = j == 0 ? both : wasm_u8x16_avgr(sum[t], both);
            if (j + 1 < kTogether) continue;
            whole = wasm_i16x8_add(whole, sum[t]);
            upper = wasm_i16x8_add(upper, wasm_u16x8_shr(sum[t], 8));
            if constexpr (isExact(A)) {
              V& x = x16[r * T + t][p];
              x = wasm_i8x16_add(x, wasm_i8x16_add(swizzle(load(e + 16), low), swizzle(load(e + 48), high)));
            }
          }
        }
      }
      w[r] += kTogether * P * TILE_ROWS;
    }
    table += 2 * kTogether * kTable;
  }
  for (int i = 0; i < N; i++) {
    for (int p = 0; p < P; p++) {
      V low = wasm_i16x8_sub(t16[i][p], wasm_i16x8_shl(h16[i][p], 8)), high = h16[i][p];
      if constexpr (isExact(A)) {
        // x16 holds bytes <= 14 per octet, 224 per 128 columns: rows 0-7 in the even, 8-15 in the odd bytes.
        const V bias = wasm_i16x8_splat(static_cast<int16_t>(octets * 1024));
        low = wasm_i16x8_sub(wasm_i16x8_add(low, wasm_i16x8_shl(wasm_v128_and(x16[i][p], wasm_i16x8_splat(255)), 7)), bias);
        high = wasm_i16x8_sub(wasm_i16x8_add(high, wasm_i16x8_shl(wasm_u16x8_shr(x16[i][p], 8), 7)), bias);
      } else if (A == Prep::lut8 && averages(A, Averaged, P, p)) {
        // Twice the averages, less what they were rounded up by: 1/2 each at the mean.
        const V up = wasm_i16x8_splat(static_cast<int16_t>(octets / 2));
        low = wasm_i16x8_sub(wasm_i16x8_shl(low, 1), up), high = wasm_i16x8_sub(wasm_i16x8_shl(high, 1), up);
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

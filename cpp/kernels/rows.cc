// Matrices stored row by row at 8 or 32 bits: embedding, head, the "8-bit" and "f32" levels.
// 16 rows lie side by side, so every row's sum runs along a lane in column order and nothing is added across lanes.
//
//   f32:  y = sum x_k w_k                                      columns as 16 floats
//   int8: y = scale * sum q_k w_k, q int16, w int8, exact      pairs of columns as 32 bytes: w(r, 2j), w(r, 2j + 1), …
//         or scale * sum over groups of s * (that sum)         and after each group 16 halves s
//
// Bound: memory. int8: 12 vector instructions for 32 weights (load and widen, i32x4.dot_i16x8_s, add).
#include "kernels/kernels.h"
#include "kernels/sweep.h"

namespace lutra::kernels {
namespace {

struct F32 {
  const Part& w;
  const Acts& a;
  static constexpr uint32_t kStreams = 2, kTogether = 1, kSums = 1;
  static constexpr uint32_t kColumns = 32;  // a chunk: 2 KB

  uint32_t chunks() const { return roundUp(w.cols, kColumns) / kColumns; }
  size_t chunkBytes() const { return kColumns * TILE_ROWS * 4; }
  void finish(const float* sums, float* out, uint32_t, uint32_t) const { copySums(sums, out); }

  template <int R, int T> LUTRA_INLINE void step(const uint8_t* const* tiles, RowSums<kSums>* const* sums, uint32_t chunk, uint32_t m) const {
    const uint8_t* tile = tiles[0];
    RowSums<kSums>* out = sums[0];
    const uint32_t k0 = chunk * kColumns, n = w.cols - k0 < kColumns ? w.cols - k0 : kColumns;
    const float* x = reinterpret_cast<const float*>(a.table) + m * a.ld + w.colBegin + k0;
    V y[T][4];
    for (int t = 0; t < T; t++) for (int i = 0; i < 4; i++) y[t][i] = load(out[t].at + 4 * i);
#pragma clang loop unroll(disable)
    for (uint32_t k = 0; k < n; k++) {
      V v[4];
      for (int i = 0; i < 4; i++) v[i] = load(tile + (k * TILE_ROWS + 4 * i) * 4);
      for (int t = 0; t < T; t++) {
        const V xk = splatAt(x + t * a.ld + k);
        for (int i = 0; i < 4; i++) y[t][i] = add(y[t][i], mul(xk, v[i]));
      }
    }
    for (int t = 0; t < T; t++) for (int i = 0; i < 4; i++) store(out[t].at + 4 * i, y[t][i]);
  }
};

struct Int8 {
  const Part& w;
  const Acts& a;
  static constexpr uint32_t kStreams = 2, kTogether = 1, kSums = 1;
  static constexpr uint32_t kPairs = 64;  // a chunk: 2 KB

  uint32_t pairs() const { return roundUp(w.cols, 2) / 2; }
  uint32_t chunks() const { return roundUp(pairs(), kPairs) / kPairs; }
  size_t chunkBytes() const { return kPairs * 32; }

  // The sums are int32 until finish().
  template <int R, int T> LUTRA_INLINE void step(const uint8_t* const* tiles, RowSums<kSums>* const* sums, uint32_t chunk, uint32_t m) const {
    const uint8_t* tile = tiles[0];
    RowSums<kSums>* out = sums[0];
    const uint32_t j0 = chunk * kPairs, n = pairs() - j0 < kPairs ? pairs() - j0 : kPairs;
    const int16_t* x = reinterpret_cast<const int16_t*>(a.table) + m * a.ld + w.colBegin + 2 * j0;
    V y[T][4];
    for (int t = 0; t < T; t++) for (int i = 0; i < 4; i++) y[t][i] = load(out[t].at + 4 * i);
#pragma clang loop unroll(disable)
    for (uint32_t j = 0; j < n; j++) {
      V v[4];
      for (int i = 0; i < 4; i++) v[i] = wasm_i16x8_load8x8(tile + j * 32 + 8 * i);
      for (int t = 0; t < T; t++) {
        const V xj = wasm_v128_load32_splat(x + t * a.ld + 2 * j);
        for (int i = 0; i < 4; i++) y[t][i] = wasm_i32x4_add(y[t][i], wasm_i32x4_dot_i16x8(xj, v[i]));
      }
    }
    for (int t = 0; t < T; t++) for (int i = 0; i < 4; i++) store(out[t].at + 4 * i, y[t][i]);
  }

  LUTRA_INLINE void finish(const float* sums, float* out, uint32_t m, uint32_t) const {
    const V d = splatAt(a.scale + m);
    for (uint32_t i = 0; i < TILE_ROWS; i += 4) store(out + i, mul(wasm_f32x4_convert_i32x4(load(sums + i)), d));
  }
};

// A chunk is a group.
struct Int8Groups {
  const Part& w;
  const Acts& a;
  static constexpr uint32_t kStreams = 2, kTogether = 1, kSums = 1;

  uint32_t chunks() const { return roundUp(w.cols, w.groupSize) / w.groupSize; }
  size_t chunkBytes() const { return TILE_ROWS * (w.groupSize + 2); }

  template <int R, int T> LUTRA_INLINE void step(const uint8_t* const* tiles, RowSums<kSums>* const* sums, uint32_t chunk, uint32_t m) const {
    const uint8_t* tile = tiles[0];
    const int16_t* x = reinterpret_cast<const int16_t*>(a.table) + m * a.ld + w.colBegin + chunk * w.groupSize;
    V y[T][4];
    for (int t = 0; t < T; t++) for (int i = 0; i < 4; i++) y[t][i] = wasm_i32x4_splat(0);
#pragma clang loop unroll(disable)
    for (uint32_t j = 0; j < w.groupSize; j += 2, tile += 32) {
      V v[4];
      for (int i = 0; i < 4; i++) v[i] = wasm_i16x8_load8x8(tile + 8 * i);
      for (int t = 0; t < T; t++) {
        const V xj = wasm_v128_load32_splat(x + t * a.ld + j);
        for (int i = 0; i < 4; i++) y[t][i] = wasm_i32x4_add(y[t][i], wasm_i32x4_dot_i16x8(xj, v[i]));
      }
    }
    for (int i = 0; i < 4; i++) {
      const V s = halfToFloatV(wasm_u32x4_load16x4(tile + 8 * i));
      for (int t = 0; t < T; t++) store(sums[0][t].at + 4 * i, add(load(sums[0][t].at + 4 * i), mul(wasm_f32x4_convert_i32x4(y[t][i]), s)));
    }
  }

  LUTRA_INLINE void finish(const float* sums, float* out, uint32_t m, uint32_t) const {
    const V d = splatAt(a.scale + m);
    for (uint32_t i = 0; i < TILE_ROWS; i += 4) store(out + i, mul(load(sums + i), d));
  }
};

}  // namespace

void matMulF32(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end) {
  sweep(F32{w, a}, w, a, out, ld, begin, end);
}
void matMulInt8(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end) {
  sweep(Int8{w, a}, w, a, out, ld, begin, end);
}
void matMulInt8Groups(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end) {
  sweep(Int8Groups{w, a}, w, a, out, ld, begin, end);
}

}  // namespace lutra::kernels

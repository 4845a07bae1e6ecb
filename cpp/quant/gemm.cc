// C (+)= A B. Operands are packed into panels of 4 rows of A and 8 columns of B, [k][4] and [k][8]; the micro kernel keeps a
// 4 x 8 tile of C in eight vectors: per k two loads, four splats, eight multiplications and additions.
// Bound: 8 multiply-adds a cycle where both can be issued twice a cycle; packing costs a twentieth for full tiles.
#include "quant/gemm.h"

namespace lutra::quant {
namespace {

constexpr uint32_t kRows = 4, kCols = 8;

// dst[k][Width] = x(i, k) for i < n, zeros up to Width. x.row == 1: runs are copied; x.col == 1: 4 x 4 blocks are transposed.
template <uint32_t Width>
void packPanel(float* dst, View x, uint32_t n, uint32_t depth) {
  if (n < Width) {
    for (uint32_t k = 0; k < depth; k++) {
      for (uint32_t i = 0; i < Width; i++) dst[k * Width + i] = i < n ? *x.at(i, k).p : 0;
    }
    return;
  }
  if (x.row == 1) {
    for (uint32_t k = 0; k < depth; k++) {
      for (uint32_t i = 0; i < Width; i += 4) store(dst + k * Width + i, load(x.at(i, k).p));
    }
    return;
  }
  for (uint32_t i = 0; i < Width; i += 4) {
    const float *r0 = x.at(i, 0).p, *r1 = r0 + x.row, *r2 = r1 + x.row, *r3 = r2 + x.row;
    uint32_t k = 0;
    if (x.col == 1) {
      for (; k + 4 <= depth; k += 4) {
        const V a = load(r0 + k), b = load(r1 + k), c = load(r2 + k), d = load(r3 + k);
        const V ab = wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), cd = wasm_i32x4_shuffle(c, d, 0, 4, 1, 5);
        const V AB = wasm_i32x4_shuffle(a, b, 2, 6, 3, 7), CD = wasm_i32x4_shuffle(c, d, 2, 6, 3, 7);
        float* to = dst + k * Width + i;
        store(to, wasm_i64x2_shuffle(ab, cd, 0, 2));
        store(to + Width, wasm_i64x2_shuffle(ab, cd, 1, 3));
        store(to + 2 * Width, wasm_i64x2_shuffle(AB, CD, 0, 2));
        store(to + 3 * Width, wasm_i64x2_shuffle(AB, CD, 1, 3));
      }
    }
    for (; k < depth; k++) {
      const size_t at = static_cast<size_t>(k) * x.col;
      store(dst + k * Width + i, wasm_f32x4_make(r0[at], r1[at], r2[at], r3[at]));
    }
  }
}

// A 4 x 8 tile of C. Vectors side by side are treated alike and one after the other: engines may then join them.
template <Store How>
void micro(float* c, uint32_t ldc, uint32_t depth, const float* a, const float* b) {
  const auto start = [](const float* p) LUTRA_LAMBDA { return How == Store::set ? splat(0) : load(p); };
  const auto next = [](V s, V x, V y) LUTRA_LAMBDA { return How == Store::subtract ? sub(s, mul(x, y)) : add(s, mul(x, y)); };
  float *c1 = c + ldc, *c2 = c1 + ldc, *c3 = c2 + ldc;
  V s0 = start(c), s1 = start(c + 4), s2 = start(c1), s3 = start(c1 + 4), s4 = start(c2), s5 = start(c2 + 4), s6 = start(c3), s7 = start(c3 + 4);
  for (uint32_t k = 0; k < depth; k++, a += kRows, b += kCols) {
    const V left = load(b), right = load(b + 4);
    V x = splatAt(a);
    s0 = next(s0, x, left);
    s1 = next(s1, x, right);
    x = splatAt(a + 1);
    s2 = next(s2, x, left);
    s3 = next(s3, x, right);
    x = splatAt(a + 2);
    s4 = next(s4, x, left);
    s5 = next(s5, x, right);
    x = splatAt(a + 3);
    s6 = next(s6, x, left);
    s7 = next(s7, x, right);
  }
  store(c, s0);
  store(c + 4, s1);
  store(c1, s2);
  store(c1 + 4, s3);
  store(c2, s4);
  store(c2 + 4, s5);
  store(c3, s6);
  store(c3 + 4, s7);
}

// All tiles of packed operands but those that end left of `from` + their row: the panel of B stays in the first-level cache
// while A's pass by.
template <Store How>
void tiles(float* c, uint32_t ldc, uint32_t m, uint32_t n, uint32_t depth, const float* a, const float* b, int32_t from) {
  for (uint32_t j = 0; j < n; j += kCols) {
    for (uint32_t i = 0; i < m && static_cast<int32_t>(j + kCols) > static_cast<int32_t>(i) + from; i += kRows) {
      float* to = c + static_cast<size_t>(i) * ldc + j;
      const float *pa = a + static_cast<size_t>(i) * depth, *pb = b + static_cast<size_t>(j) * depth;
      if (i + kRows <= m && j + kCols <= n) {
        micro<How>(to, ldc, depth, pa, pb);
        continue;
      }
      float edge[kRows * kCols];
      const uint32_t rows = m - i < kRows ? m - i : kRows, cols = n - j < kCols ? n - j : kCols;
      for (uint32_t y = 0; y < rows; y++) for (uint32_t x = 0; x < cols; x++) edge[y * kCols + x] = How == Store::set ? 0 : to[y * ldc + x];
      micro<How>(edge, kCols, depth, pa, pb);
      for (uint32_t y = 0; y < rows; y++) for (uint32_t x = 0; x < cols; x++) to[y * ldc + x] = edge[y * kCols + x];
    }
  }
}

}  // namespace

void gemm(float* c, uint32_t ldc, uint32_t m, uint32_t n, uint32_t depth, View a, View b, Store how, void* scratch, int32_t from) {
  float *packedA = static_cast<float*>(scratch), *packedB = packedA + TILE_M * PANEL_K;
  const View bT{b.p, b.col, b.row};  // packed like A: runs of columns
  for (uint32_t k = 0; k < depth; k += PANEL_K) {
    const uint32_t steps = depth - k < PANEL_K ? depth - k : PANEL_K;
    const Store now = k > 0 && how == Store::set ? Store::add : how;
    for (uint32_t j = 0; j < n; j += TILE_N) {
      const uint32_t cols = n - j < TILE_N ? n - j : TILE_N;
      for (uint32_t x = 0; x < cols; x += kCols) packPanel<kCols>(packedB + x * steps, bT.at(j + x, k), cols - x < kCols ? cols - x : kCols, steps);
      for (uint32_t i = 0; i < m; i += TILE_M) {
        const uint32_t rows = m - i < TILE_M ? m - i : TILE_M;
        for (uint32_t y = 0; y < rows; y += kRows) packPanel<kRows>(packedA + y * steps, a.at(i + y, k), rows - y < kRows ? rows - y : kRows, steps);
        float* to = c + static_cast<size_t>(i) * ldc + j;
        const int32_t here = from + static_cast<int32_t>(i) - static_cast<int32_t>(j);
        if (now == Store::set) tiles<Store::set>(to, ldc, rows, cols, steps, packedA, packedB, here);
        else if (now == Store::add) tiles<Store::add>(to, ldc, rows, cols, steps, packedA, packedB, here);
        else tiles<Store::subtract>(to, ldc, rows, cols, steps, packedA, packedB, here);
      }
    }
  }
}

}  // namespace lutra::quant

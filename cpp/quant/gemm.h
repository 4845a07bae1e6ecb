// Matrix products in f32, for matrices in any stride. Each element of the result is a sum over k in order, so it depends neither
// on how the result is cut into tasks nor on who computes which.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "simd/v128.h"

namespace lutra::quant {

// Element (i, k) is p[i * row + k * col]; one of the strides is 1.
struct View {
  const float* p;
  uint32_t row, col;
  View at(uint32_t i, uint32_t k) const { return {p + static_cast<size_t>(i) * row + static_cast<size_t>(k) * col, row, col}; }
};

enum class Store : uint32_t { set, add, subtract };

// A task's largest tile of the result, and the bytes of the packed operands it needs.
constexpr uint32_t TILE_M = 192, TILE_N = 256, PANEL_K = 256;
constexpr uint32_t kGemmScratch = 4 * PANEL_K * (TILE_M + TILE_N);

constexpr int32_t EVERYWHERE = INT32_MIN / 2;
// c[i * ldc + j] = sum over k < depth of a(i, k) b(k, j), or that added to or subtracted from it; scratch: kGemmScratch bytes.
// Only j >= i + from matters: the rest may be left out.
void gemm(float* c, uint32_t ldc, uint32_t m, uint32_t n, uint32_t depth, View a, View b, Store how, void* scratch, int32_t from = EVERYWHERE);

}  // namespace lutra::quant

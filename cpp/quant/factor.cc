#include "quant/factor.h"

namespace lutra::quant {
namespace {

// Sum of a[i] b[i], in four partial sums.
float dot(const float* a, const float* b, uint32_t n) {
  V sums = splat(0);
  uint32_t i = 0;
  for (; i + 4 <= n; i += 4) sums = add(sums, mul(load(a + i), load(b + i)));
  float s[4];
  store(s, sums);
  for (; i < n; i++) s[i % 4] += a[i] * b[i];
  return joined(s);
}

}  // namespace

// h[i][j] = sum over l >= j of v[i][l] v[j][l], i <= j: from the last column to the first.
bool factorDiagonal(float* h, uint32_t n, uint32_t begin, uint32_t end) {
  for (uint32_t j = end; j-- > begin;) {
    float* row = h + static_cast<size_t>(j) * n;
    const float square = row[j] - dot(row + j + 1, row + j + 1, end - j - 1);
    if (!(square > 0)) return false;
    row[j] = __builtin_sqrtf(square);
    for (uint32_t i = begin; i < j; i++) {
      float* above = h + static_cast<size_t>(i) * n;
      above[j] = (above[j] - dot(above + j + 1, row + j + 1, end - j - 1)) / row[j];
    }
  }
  return true;
}

void factorPanel(float* h, uint32_t n, uint32_t begin, uint32_t end, uint32_t from, uint32_t to) {
  for (uint32_t i = from; i < to; i++) {
    float* row = h + static_cast<size_t>(i) * n;
    for (uint32_t j = end; j-- > begin;) {
      const float* v = h + static_cast<size_t>(j) * n;
      row[j] = (row[j] - dot(row + j + 1, v + j + 1, end - j - 1)) / v[j];
    }
  }
}

void solveRows(float* x, uint32_t ld, uint32_t rows, const float* v, uint32_t n, void* scratch) {
  const uint32_t blocks = (n + FACTOR_BLOCK - 1) / FACTOR_BLOCK;
  // Z Vᵀ = X, from the last block: what later columns contribute is taken away, then the block itself is solved.
  for (uint32_t b = blocks; b-- > 0;) {
    const uint32_t begin = b * FACTOR_BLOCK, end = begin + FACTOR_BLOCK < n ? begin + FACTOR_BLOCK : n;
    gemm(x + begin, ld, rows, end - begin, n - end, {x + end, ld, 1}, {v + static_cast<size_t>(begin) * n + end, 1, n}, Store::subtract, scratch);
    for (uint32_t r = 0; r < rows; r++) {
      float* row = x + static_cast<size_t>(r) * ld;
      for (uint32_t j = end; j-- > begin;) {
        const float* vj = v + static_cast<size_t>(j) * n;
        row[j] = (row[j] - dot(row + j + 1, vj + j + 1, end - j - 1)) / vj[j];
      }
    }
  }
  // W V = Z, from the first block; inside it, a solved column is taken from those behind it.
  for (uint32_t b = 0; b < blocks; b++) {
    const uint32_t begin = b * FACTOR_BLOCK, end = begin + FACTOR_BLOCK < n ? begin + FACTOR_BLOCK : n;
    gemm(x + begin, ld, rows, end - begin, begin, {x, ld, 1}, {v + begin, n, 1}, Store::subtract, scratch);
    for (uint32_t r = 0; r < rows; r++) {
      float* row = x + static_cast<size_t>(r) * ld;
      for (uint32_t j = begin; j < end; j++) {
        const float* vj = v + static_cast<size_t>(j) * n;
        row[j] /= vj[j];
        for (uint32_t k = j + 1; k < end; k++) row[k] -= row[j] * vj[k];
      }
    }
  }
}

}  // namespace lutra::quant

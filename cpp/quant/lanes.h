// Small systems of equations, one for each lane.
#pragma once
#include "simd/v128.h"

namespace lutra::quant {

// What the data leave open stays as it is: added to the diagonal, as a share of its mean.
constexpr float kRidge = 1e-4f;

LUTRA_INLINE V inverseOf(V pivot) { return wasm_v128_and(wasm_f32x4_div(splat(1), pivot), wasm_f32x4_gt(pivot, splat(0))); }

// b becomes (A + ridge)⁻¹ b, by LDLᵀ; of A the lower triangle is read and overwritten. Where A is zero, so is the result.
template <uint32_t N>
LUTRA_INLINE void solveLanes(V (&a)[N][N], V (&b)[N]) {
  V ridge = splat(0), inverse[N];
  for (uint32_t i = 0; i < N; i++) ridge = add(ridge, a[i][i]);
  ridge = mul(ridge, splat(kRidge / N));
  for (uint32_t j = 0; j < N; j++) {
    a[j][j] = add(a[j][j], ridge);
    for (uint32_t k = 0; k < j; k++) a[j][j] = sub(a[j][j], mul(mul(a[j][k], a[j][k]), a[k][k]));
    inverse[j] = inverseOf(a[j][j]);
    for (uint32_t i = j + 1; i < N; i++) {
      for (uint32_t k = 0; k < j; k++) a[i][j] = sub(a[i][j], mul(mul(a[i][k], a[j][k]), a[k][k]));
      a[i][j] = mul(a[i][j], inverse[j]);
    }
  }
  for (uint32_t i = 0; i < N; i++) for (uint32_t k = 0; k < i; k++) b[i] = sub(b[i], mul(a[i][k], b[k]));
  for (uint32_t i = 0; i < N; i++) b[i] = mul(b[i], inverse[i]);
  for (uint32_t i = N; i-- > 0;) for (uint32_t k = i + 1; k < N; k++) b[i] = sub(b[i], mul(a[k][i], b[k]));
}

// The same for n unknowns: a holds the lower triangle, row after row, a[i (i + 1) / 2 + j]; Cholesky.
inline void solveLanes(V* a, V* b, uint32_t n) {
  V ridge = splat(0);
  const auto row = [&](uint32_t i) { return a + static_cast<size_t>(i) * (i + 1) / 2; };
  for (uint32_t i = 0; i < n; i++) ridge = add(ridge, row(i)[i]);
  ridge = mul(ridge, splat(kRidge / static_cast<float>(n)));
  for (uint32_t i = 0; i < n; i++) {
    V* x = row(i);
    for (uint32_t j = 0; j < i; j++) {
      const V* y = row(j);
      V s = x[j];
      for (uint32_t k = 0; k < j; k++) s = sub(s, mul(x[k], y[k]));
      x[j] = mul(s, y[j]);
    }
    V pivot = add(x[i], ridge), s = b[i];
    for (uint32_t k = 0; k < i; k++) pivot = sub(pivot, mul(x[k], x[k]));
    x[i] = inverseOf(wasm_f32x4_sqrt(pivot));  // the inverse of the factor's diagonal
    for (uint32_t k = 0; k < i; k++) s = sub(s, mul(x[k], b[k]));
    b[i] = mul(s, x[i]);
  }
  for (uint32_t i = n; i-- > 0;) {
    b[i] = mul(b[i], row(i)[i]);
    for (uint32_t k = 0; k < i; k++) b[k] = sub(b[k], mul(row(i)[k], b[i]));
  }
}

}  // namespace lutra::quant

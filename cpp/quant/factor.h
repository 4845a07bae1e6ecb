// Reverse Cholesky and what it is for. H = V Vᵀ with V upper triangular: columns are then rounded from the first to the last, and
// ‖E V‖² = tr(E H Eᵀ) splits into one square for each column (LDLQ; QuIP, arXiv 2307.13304).
#pragma once
#include "quant/gemm.h"

namespace lutra::quant {

constexpr uint32_t FACTOR_BLOCK = 64;

// One step of the factorisation in place, for the block of columns [begin, end): its diagonal block becomes V's. Serial.
// Returns whether it is positive definite.
bool factorDiagonal(float* h, uint32_t n, uint32_t begin, uint32_t end);
// Rows [from, to) above the block: H[i, B] becomes V[i, B].
void factorPanel(float* h, uint32_t n, uint32_t begin, uint32_t end, uint32_t from, uint32_t to);

// Rows of x [rows][ld] become x (V Vᵀ)⁻¹.
void solveRows(float* x, uint32_t ld, uint32_t rows, const float* v, uint32_t n, void* scratch);

}  // namespace lutra::quant

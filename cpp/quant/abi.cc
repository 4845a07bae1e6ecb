// What the quantiser's host can call. Work is cut into tasks, whose number follows from the sizes alone; any thread may do any
// task, with scratch of its own, and the result is the same. Every function ends with `task` and `scratch`.
#include "export.h"
#include "model/rope.h"
#include "quant/factor.h"
#include "quant/layer.h"
#include "quant/rounding.h"

using namespace lutra;
using namespace lutra::quant;

// Rows of tokens a task takes.
static constexpr uint32_t kTokens = 32;

static uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }
template <class F>
static void forTokens(uint32_t rows, uint32_t task, F visit) {
  for (uint32_t i = task * kTokens, end = min(i + kTokens, rows); i < end; i++) visit(i);
}

// ---- Matrix products. Tasks: tiles of TILE_M x TILE_N, along the columns first. ----

// C [m][n] (stride ldc) = A B, added or subtracted (Store). Element (i, k) of A is a[i aRow + k aCol], of B b[i bRow + k bCol].
// `upper`: of a symmetric C only what lies above the diagonal or on it; mirror() makes the rest.
LUTRA_EXPORT void multiply(float* c, uint32_t ldc, uint32_t m, uint32_t n, uint32_t depth, const float* a, uint32_t aRow, uint32_t aCol,
                           const float* b, uint32_t bRow, uint32_t bCol, uint32_t how, uint32_t upper, uint32_t task, void* scratch) {
  const uint32_t wide = (n + TILE_N - 1) / TILE_N, i = task / wide * TILE_M, j = task % wide * TILE_N;
  if (upper && j + TILE_N <= i) return;
  gemm(c + static_cast<size_t>(i) * ldc + j, ldc, min(m - i, TILE_M), min(n - j, TILE_N), depth, View{a, aRow, aCol}.at(i, 0),
       View{b, bRow, bCol}.at(0, j), static_cast<Store>(how), scratch, upper ? static_cast<int32_t>(i - j) : EVERYWHERE);
}

// h[j][i] = h[i][j] for j > i, and h[i][i] stays. Tasks of kTokens rows.
LUTRA_EXPORT void mirror(float* h, uint32_t n, uint32_t task, void*) {
  forTokens(n, task, [&](uint32_t j) { for (uint32_t i = 0; i < j; i++) h[static_cast<size_t>(j) * n + i] = h[static_cast<size_t>(i) * n + j]; });
}

// to[i][j] = factor * from[order[i]][order[j]] (rows: order null), + damping on the diagonal. Tasks of kTokens rows.
LUTRA_EXPORT void arrange(float* to, const float* from, uint32_t rows, uint32_t n, const uint32_t* rowOrder, const uint32_t* order,
                          float factor, float damping, uint32_t task, void*) {
  forTokens(rows, task, [&](uint32_t i) {
    const float* source = from + static_cast<size_t>(rowOrder ? rowOrder[i] : i) * n;
    float* target = to + static_cast<size_t>(i) * n;
    for (uint32_t j = 0; j < n; j++) target[j] = factor * source[order ? order[j] : j];
    if (rowOrder) target[i] += damping;
  });
}

// ---- A layer between its matrices. Tasks of kTokens rows, attention: one head of one sequence. ----

// table: [positions][headDim]; frequencies: space for headDim / 2. One task.
LUTRA_EXPORT void ropeTable(float* table, const Rope* rope, double* frequencies, uint32_t positions, uint32_t headDim, uint32_t, void*) {
  const double attention = ropeFrequencies(*rope, headDim, frequencies);
  for (uint32_t i = 0; i < positions; i++) ropeAngles(frequencies, attention, headDim, i, table + static_cast<size_t>(i) * headDim);
}
// positions: of each row. back: the other way.
LUTRA_EXPORT void rotate(float* x, uint32_t ld, uint32_t rows, const float* table, const uint32_t* positions, uint32_t heads, uint32_t headDim, uint32_t back,
                         uint32_t task, void*) {
  forTokens(rows, task, [&](uint32_t i) { ropeRow(x + static_cast<size_t>(i) * ld, table, positions[i], heads, headDim, back ? -1.0f : 1.0f); });
}
LUTRA_EXPORT void norm(float* h, const float* x, const float* w, uint32_t rows, uint32_t n, float eps, uint32_t task, void*) {
  forTokens(rows, task, [&](uint32_t i) { normRow(h + static_cast<size_t>(i) * n, x + static_cast<size_t>(i) * n, w, n, eps); });
}
LUTRA_EXPORT void gated(float* h, const float* gate, const float* up, uint32_t rows, uint32_t n, uint32_t silu, uint32_t task, void*) {
  forTokens(rows, task, [&](uint32_t i) {
    const size_t at = static_cast<size_t>(i) * n;
    gatedRow(h + at, gate + at, up + at, n, silu != 0);
  });
}
// x[i] += bias
LUTRA_EXPORT void addBias(float* x, const float* bias, uint32_t rows, uint32_t n, uint32_t task, void*) {
  forTokens(rows, task, [&](uint32_t i) { for (uint32_t j = 0; j < n; j++) x[static_cast<size_t>(i) * n + j] += bias[j]; });
}
// out = a - b
LUTRA_EXPORT void difference(float* out, const float* a, const float* b, uint32_t rows, uint32_t n, uint32_t task, void*) {
  forTokens(rows, task, [&](uint32_t i) {
    for (size_t at = static_cast<size_t>(i) * n, end = at + n; at < end; at++) out[at] = a[at] - b[at];
  });
}
LUTRA_EXPORT uint32_t attentionBytes(uint32_t length) { return attentionScratch(length); }
LUTRA_EXPORT void attention(float* out, const float* q, const float* k, const float* v, const Sequence* sequences, uint32_t heads, uint32_t headsKv,
                            uint32_t headDim, uint32_t task, void* scratch) {
  const uint32_t head = task % heads, kv = head / (heads / headsKv);
  attendHead(out + head * headDim, q + head * headDim, heads * headDim, k + kv * headDim, v + kv * headDim, headsKv * headDim,
             sequences[task / heads], headDim, scratch);
}
// ---- The same backward (layer.h). attentionBack: one key head of one sequence a task; dk and dv are zero before. ----

LUTRA_EXPORT void normBack(float* dx, const float* dh, const float* x, const float* w, uint32_t rows, uint32_t n, float eps, uint32_t task, void*) {
  forTokens(rows, task, [&](uint32_t i) {
    const size_t at = static_cast<size_t>(i) * n;
    normRowBack(dx + at, dh + at, x + at, w, n, eps);
  });
}
LUTRA_EXPORT void gatedBack(float* gate, float* up, const float* dh, uint32_t rows, uint32_t n, uint32_t silu, uint32_t task, void*) {
  forTokens(rows, task, [&](uint32_t i) {
    const size_t at = static_cast<size_t>(i) * n;
    gatedRowBack(gate + at, up + at, dh + at, n, silu != 0);
  });
}
LUTRA_EXPORT void attentionBack(float* dq, float* dk, float* dv, const float* dOut, const float* q, const float* k, const float* v, const Sequence* sequences,
                                uint32_t heads, uint32_t headsKv, uint32_t headDim, uint32_t task, void* scratch) {
  const uint32_t kv = task % headsKv, shared = heads / headsKv;
  for (uint32_t head = kv * shared; head < (kv + 1) * shared; head++) {
    const uint32_t own = head * headDim, both = kv * headDim;
    attendHeadBack(dq + own, dk + both, dv + both, dOut + own, q + own, heads * headDim, k + both, v + both, headsKv * headDim,
                   sequences[task / headsKv], headDim, scratch);
  }
}
// logits become the gradient of -ln p(target): p - [j == target]; losses[i] is the cross-entropy. A target of UINT32_MAX counts nothing.
LUTRA_EXPORT void crossEntropyBack(float* logits, double* losses, const uint32_t* targets, uint32_t rows, uint32_t vocab, uint32_t task, void*) {
  forTokens(rows, task, [&](uint32_t i) {
    float *x = logits + static_cast<size_t>(i) * vocab, peak = x[0];
    losses[i] = 0;
    const bool counts = targets[i] < vocab;
    const float target = counts ? x[targets[i]] : 0;
    for (uint32_t j = 1; j < vocab; j++) peak = peak < x[j] ? x[j] : peak;
    double sum = 0;
    for (uint32_t j = 0; j < vocab; j++) sum += x[j] = exponential(x[j] - peak);
    const float inverse = counts ? static_cast<float>(1 / sum) : 0;
    for (uint32_t j = 0; j < vocab; j++) x[j] *= inverse;
    if (!counts) return;
    losses[i] = logarithm64(sum) + peak - target;
    x[targets[i]] -= 1;
  });
}
// squares[j] = sum over rows of x[i][j]^2. Tasks of kTokens columns.
LUTRA_EXPORT void columnSquares(float* squares, const float* x, uint32_t rows, uint32_t n, uint32_t task, void*) {
  for (uint32_t j = task * kTokens, end = min(j + kTokens, n); j < end; j++) squares[j] = 0;
  for (uint32_t i = 0; i < rows; i++) {
    forTokens(n, task, [&](uint32_t j) { squares[j] += x[static_cast<size_t>(i) * n + j] * x[static_cast<size_t>(i) * n + j]; });
  }
}

// ---- Factorisation ----

LUTRA_EXPORT uint32_t factorBlock() { return FACTOR_BLOCK; }
// failed[0] becomes 1 where H is not positive definite.
LUTRA_EXPORT void factorOwn(float* h, uint32_t n, uint32_t begin, uint32_t end, uint32_t* failed, uint32_t, void*) {
  if (!factorDiagonal(h, n, begin, end)) *failed = 1;
}
LUTRA_EXPORT void factorAbove(float* h, uint32_t n, uint32_t begin, uint32_t end, uint32_t task, void*) {
  factorPanel(h, n, begin, end, task * kTokens, min(begin, (task + 1) * kTokens));
}
LUTRA_EXPORT void solve(float* x, uint32_t rows, const float* v, uint32_t n, uint32_t task, void* scratch) {
  const uint32_t first = task * SLAB;
  solveRows(x + static_cast<size_t>(first) * n, n, min(rows - first, SLAB), v, n, scratch);
}

// ---- Rounding ----

LUTRA_EXPORT uint32_t roundingBytes(const Rounding* job) {
  const uint64_t bytes = slabBytes(*job);
  return bytes < UINT32_MAX ? static_cast<uint32_t>(bytes) : UINT32_MAX;
}
LUTRA_EXPORT void roundRows(const Rounding* job, uint32_t task, uint8_t* scratch) { roundSlab(*job, task, scratch); }

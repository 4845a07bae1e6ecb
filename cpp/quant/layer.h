// What a transformer layer does between its matrices, for whole sequences of tokens in f32. Rows are tokens; every function
// reads its inputs and writes its outputs apart, so that a backward pass finds what it needs.
#pragma once
#include "quant/gemm.h"

namespace lutra::quant {

// A run of rows that attend to one another, from its first.
struct Sequence { uint32_t begin, length; };

// Query rows that are scored at once.
constexpr uint32_t kQueries = 128;
// Bytes of scratch for sequences of up to `length` tokens.
constexpr uint32_t attentionScratch(uint32_t length) { return kGemmScratch + 2 * 4 * kQueries * ((length + 3) / 4 * 4); }

// Rotates `heads` heads of row `row`, which stands at `position`. table: [position][headDim], the angles of model/rope.h.
// direction: 1, or -1 for the way back, which is also the gradient's.
void ropeRow(float* row, const float* table, uint32_t position, uint32_t heads, uint32_t headDim, float direction);
// h = (x / rms(x)) * w; n is any number of columns, h may be x.
void normRow(float* h, const float* x, const float* w, uint32_t n, float eps);
// h = activation(gate) * up
void gatedRow(float* h, const float* gate, const float* up, uint32_t n, bool silu);
// out[rows of the sequence] = causal softmax attention of one head. q, out: stride ldQ; k, v: stride ldK.
void attendHead(float* out, const float* q, uint32_t ldQ, const float* k, const float* v, uint32_t ldK, Sequence sequence, uint32_t headDim, void* scratch);

// ---- Backward: gradients of a scalar, given those of the outputs ----

// dx += the gradient of x, from dh.
void normRowBack(float* dx, const float* dh, const float* x, const float* w, uint32_t n, float eps);
// gate and up become their gradients, from dh.
void gatedRowBack(float* gate, float* up, const float* dh, uint32_t n, bool silu);
// dq, and added to dk and dv: several query heads share a key head.
void attendHeadBack(float* dq, float* dk, float* dv, const float* dOut, const float* q, uint32_t ldQ, const float* k, const float* v, uint32_t ldK,
                    Sequence sequence, uint32_t headDim, void* scratch);

}  // namespace lutra::quant

// The fast forms of the operations in ops.h, bit-equal to reference/.
#pragma once
#include "ops.h"

namespace lutra::kernels {

void prepareF32(const float* x, uint32_t cols, uint32_t m, Acts& a, uint32_t begin, uint32_t end);
void prepareI16(const float* x, uint32_t cols, uint32_t m, Acts& a, uint32_t begin, uint32_t end);
void prepareI8(const float* x, uint32_t cols, uint32_t m, Acts& a, uint32_t begin, uint32_t end);
void prepareLut7(const float* x, uint32_t cols, uint32_t m, Acts& a, uint32_t begin, uint32_t end);
void prepareLut8(const float* x, uint32_t cols, uint32_t m, Acts& a, uint32_t begin, uint32_t end);
void prepareExact(const float* x, uint32_t cols, uint32_t m, Acts& a, uint32_t begin, uint32_t end);

void matMulF32(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end);
void matMulInt8(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end);
template <int P, Prep A, Coding C> void matMulPlanes(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end);
void matMulInt8Groups(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end);
template <int P, Prep A, Coding C> void matMulUniform(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end);
template <Coding C> void matMulTernary(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end);

void rmsNorm(float* h, const float* x, const float* w, uint32_t n, float eps);
void rope(float* head, const float* rope, uint32_t headDim);
void attendF32(float* out, const float* q, uint32_t heads, const uint8_t* kv, uint32_t last, uint32_t headDim, float* scratch);
void attendInt8(float* out, const float* q, uint32_t heads, const uint8_t* kv, uint32_t last, uint32_t headDim, float* scratch);
void gatedUnit(float* gate, const float* up, uint32_t n, Activation activation);

uint32_t readMemory(const uint8_t* p, uint32_t n, uint32_t streams);

}  // namespace lutra::kernels

// Reference: what a transformer layer does between its matrices.
#include "math.h"
#include "reference/reference.h"

namespace lutra::reference {

void rmsNorm(float* h, const float* x, const float* w, uint32_t n, float eps) {
  float s[4] = {};
  for (uint32_t i = 0; i < n; i++) s[i % 4] += x[i] * x[i];
  const float inverse = 1.0f / __builtin_sqrtf(joined(s) / static_cast<float>(n) + eps);
  for (uint32_t i = 0; i < n; i++) h[i] = (x[i] * inverse) * w[i];
}

void rope(float* head, const float* rope, uint32_t headDim) {
  const uint32_t half = headDim / 2;
  for (uint32_t i = 0; i < half; i++) {
    const float a = head[i], b = head[i + half], c = rope[i], s = rope[i + half];
    head[i] = a * c - b * s;
    head[i + half] = a * s + b * c;
  }
}

void gatedUnit(float* gate, const float* up, uint32_t n, Activation activation) {
  for (uint32_t i = 0; i < n; i++) {
    const float g = gate[i];
    if (activation == Activation::silu) {
      gate[i] = (g / (1.0f + exponential(-g))) * up[i];
    } else {
      const float r = g > 0.0f ? g : 0.0f;
      gate[i] = (r * r) * up[i];
    }
  }
}

}  // namespace lutra::reference

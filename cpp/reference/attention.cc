// Reference: softmax attention.
#include "math.h"
#include "reference/reference.h"

namespace lutra::reference {
namespace {

// scores[i] = e^(scores[i] - largest). Returns 1 / their sum.
float softmax(float* scores, uint32_t n) {
  float peak = -__builtin_inff(), s[4] = {};
  for (uint32_t i = 0; i < n; i++) peak = peak < scores[i] ? scores[i] : peak;
  for (uint32_t i = 0; i < n; i++) {
    scores[i] = exponential(scores[i] - peak);
    s[i % 4] += scores[i];
  }
  return 1.0f / joined(s);
}

}  // namespace

void attendF32(float* out, const float* q, uint32_t heads, const uint8_t* kv, uint32_t last, uint32_t headDim, float* scores) {
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(headDim));
  const auto block = [&](uint32_t i) { return reinterpret_cast<const float*>(kv + static_cast<size_t>(i / KV_BLOCK) * kvBlockBytes(KvType::f32, headDim)); };
  const auto key = [&](uint32_t i, uint32_t d) { return block(i)[d * KV_BLOCK + i % KV_BLOCK]; };
  const auto value = [&](uint32_t i, uint32_t d) { return block(i)[(KV_BLOCK + i % KV_BLOCK) * headDim + d]; };
  for (uint32_t h = 0; h < heads; h++, q += headDim, out += headDim) {
    for (uint32_t i = 0; i <= last; i++) {
      float sum = 0;
      for (uint32_t d = 0; d < headDim; d++) sum += q[d] * key(i, d);
      scores[i] = sum * scale;
    }
    const float inverse = softmax(scores, last + 1);
    for (uint32_t d = 0; d < headDim; d++) {
      float sum = 0;
      for (uint32_t i = 0; i <= last; i++) sum += scores[i] * value(i, d);
      out[d] = sum * inverse;
    }
  }
}

// The query and the weights (softmax times the values' scales) are rounded to int16 as in prepareI16; all sums of
// products are exact integers.
void attendInt8(float* out, const float* q, uint32_t heads, const uint8_t* kv, uint32_t last, uint32_t headDim, float* scratch) {
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(headDim));
  const auto block = [&](uint32_t i) { return kv + static_cast<size_t>(i / KV_BLOCK) * kvBlockBytes(KvType::int8, headDim); };
  const auto key = [&](uint32_t i, uint32_t d) { return static_cast<int8_t>(block(i)[(d / 2 * KV_BLOCK + i % KV_BLOCK) * 2 + d % 2]); };
  const auto value = [&](uint32_t i, uint32_t d) {
    return static_cast<int8_t>(block(i)[KV_BLOCK * headDim + (i % KV_BLOCK / 2 * headDim + d) * 2 + i % 2]);
  };
  const auto scales = [&](uint32_t i) { return reinterpret_cast<const float*>(block(i) + 2 * KV_BLOCK * headDim) + i % KV_BLOCK; };
  float* weights = scratch;
  int16_t* rounded = reinterpret_cast<int16_t*>(weights + last + 1);
  for (uint32_t h = 0; h < heads; h++, q += headDim, out += headDim) {
    const float d = scaleI16(q, headDim), unit = d * scale;
    roundI16(rounded, q, headDim, d);
    for (uint32_t i = 0; i <= last; i++) {
      int32_t sum = 0;
      for (uint32_t d = 0; d < headDim; d++) sum += rounded[d] * key(i, d);
      weights[i] = (static_cast<float>(sum) * *scales(i)) * unit;
    }
    const float inverse = softmax(weights, last + 1);
    for (uint32_t i = 0; i <= last; i++) weights[i] = weights[i] * scales(i)[KV_BLOCK];
    const float w = scaleI16(weights, last + 1), factor = w * inverse;
    roundI16(rounded, weights, last + 1, w);
    for (uint32_t d = 0; d < headDim; d++) {
      int32_t sum = 0;
      for (uint32_t i = 0; i <= last; i++) sum += rounded[i] * value(i, d);
      out[d] = static_cast<float>(sum) * factor;
    }
  }
}

}  // namespace lutra::reference

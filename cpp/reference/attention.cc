// Reference: softmax attention.
#include "attend8.h"
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

// A chunk of positions after the other. Weights are 2^(score - the largest so far) times the values' scales, rounded to 7
// bits of a scale of the chunk's own; all sums of products are exact integers. What went before is made smaller when a
// larger score comes (Milakov and Gimelshein, arXiv 1805.02867).
void attendInt8(float* out, const float* q, uint32_t heads, const uint8_t* kv, uint32_t last, uint32_t headDim, float* scratch) {
  const auto block = [&](uint32_t i) { return kv + static_cast<size_t>(i / KV_BLOCK) * kvBlockBytes(KvType::int8, headDim); };
  const auto key = [&](uint32_t i, uint32_t d) { return block(i)[(d / 4 * KV_BLOCK + i % KV_BLOCK) * 4 + d % 4] - kKeyZero; };
  const auto value = [&](uint32_t i, uint32_t d) {
    return static_cast<int8_t>(block(i)[KV_BLOCK * headDim + (i % KV_BLOCK / 4 * headDim + d) * 4 + i % 4]);
  };
  const auto scales = [&](uint32_t i) { return reinterpret_cast<const float*>(block(i) + 2 * KV_BLOCK * headDim) + i % KV_BLOCK; };
  float* weights = scratch;
  float* turned = weights + kAttendChunk;
  int16_t* codes = reinterpret_cast<int16_t*>(turned + headDim);
  for (uint32_t h = 0; h < heads; h++, q += headDim, out += headDim) {
    for (uint32_t d = 0; d < headDim; d++) turned[d] = q[d];
    hadamard(turned, headDim);
    const float unit = roundCodes(turned, headDim, kQueryCodes, [&](uint32_t d, int32_t code) { codes[d] = static_cast<int16_t>(code); }) *
                       attendScale(headDim);
    float peak = -__builtin_inff(), total = 0;
    for (uint32_t d = 0; d < headDim; d++) out[d] = 0;
    for (uint32_t first = 0; first <= last; first += kAttendChunk) {
      const uint32_t n = last + 1 - first < kAttendChunk ? last + 1 - first : kAttendChunk;
      float largest = -__builtin_inff();
      for (uint32_t i = 0; i < n; i++) {
        int32_t sum = 0;
        for (uint32_t d = 0; d < headDim; d++) sum += codes[d] * key(first + i, d);
        weights[i] = (static_cast<float>(sum) * *scales(first + i)) * unit;
        largest = largest < weights[i] ? weights[i] : largest;
      }
      if (peak < largest) {
        const float smaller = power2(peak - largest);
        total = total * smaller;
        for (uint32_t d = 0; d < headDim; d++) out[d] = out[d] * smaller;
        peak = largest;
      }
      float largestFour = 0, sums[4] = {};
      for (uint32_t b = 0; b < n; b += KV_BLOCK) {
        float p[KV_BLOCK] = {}, w[KV_BLOCK] = {};
        for (uint32_t i = 0; i < KV_BLOCK && b + i < n; i++) {
          p[i] = power2(weights[b + i] - peak);
          w[i] = p[i] * scales(first + b + i)[KV_BLOCK];
          weights[b + i] = w[i];
        }
        for (uint32_t i = 0; i < 4; i++) {
          sums[i] = sums[i] + ((p[i] + p[4 + i]) + (p[8 + i] + p[12 + i]));
          const float four = (w[i] + w[4 + i]) + (w[8 + i] + w[12 + i]);
          largestFour = largestFour < four ? four : largestFour;
        }
      }
      const float factor = largestFour / kWeightSum, inverse = factor < 1e-30f ? 0.0f : 1.0f / factor;
      total = total + joined(sums);
      for (uint32_t d = 0; d < headDim; d++) {
        int32_t sum = 0;
        for (uint32_t i = 0; i < n; i++) sum += static_cast<int32_t>(nearest(weights[i] * inverse)) * value(first + i, d);
        out[d] = out[d] + static_cast<float>(sum) * factor;
      }
    }
    hadamard(out, headDim);
    const float inverse = 1.0f / (total * static_cast<float>(powerIn(headDim)));
    for (uint32_t d = 0; d < headDim; d++) out[d] = out[d] * inverse;
  }
}

}  // namespace lutra::reference

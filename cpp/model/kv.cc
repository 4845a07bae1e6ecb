#include "model/kv.h"
#include "math.h"

namespace lutra {
namespace {

// codes[at(d)] = round(x[d] / scale), x: [n]. Returns scale = absmax / 127.
float roundI8(uint8_t* codes, uint32_t n, const float* x, auto at) {
  float peak = 0;
  for (uint32_t d = 0; d < n; d++) peak = absolute(x[d]) > peak ? absolute(x[d]) : peak;
  const float inverse = peak < 1e-30f ? 0.0f : 127.0f / peak;
  for (uint32_t d = 0; d < n; d++) codes[at(d)] = static_cast<uint8_t>(static_cast<int8_t>(nearest(x[d] * inverse)));
  return peak < 1e-30f ? 0.0f : peak / 127.0f;
}

}  // namespace

void storeKv(KvType type, uint8_t* blocks, uint32_t position, uint32_t headDim, const float* k, const float* v) {
  const uint32_t i = position % KV_BLOCK;
  uint8_t* block = blocks + static_cast<size_t>(position / KV_BLOCK) * kvBlockBytes(type, headDim);
  if (type == KvType::f32) {
    float* f = reinterpret_cast<float*>(block);
    for (uint32_t d = 0; d < headDim; d++) f[d * KV_BLOCK + i] = k[d];
    for (uint32_t d = 0; d < headDim; d++) f[(KV_BLOCK + i) * headDim + d] = v[d];
    return;
  }
  float* scales = reinterpret_cast<float*>(block + 2 * KV_BLOCK * headDim);
  scales[i] = roundI8(block, headDim, k, [&](uint32_t d) { return (d / 2 * KV_BLOCK + i) * 2 + d % 2; });
  scales[KV_BLOCK + i] = roundI8(block + KV_BLOCK * headDim, headDim, v, [&](uint32_t d) { return (i / 2 * headDim + d) * 2 + i % 2; });
}

}  // namespace lutra

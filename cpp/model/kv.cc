#include "model/kv.h"
#include "attend8.h"

namespace lutra {

void storeKv(KvType type, uint8_t* blocks, uint32_t position, uint32_t headDim, float* k, float* v) {
  const uint32_t i = position % KV_BLOCK;
  uint8_t* block = blocks + static_cast<size_t>(position / KV_BLOCK) * kvBlockBytes(type, headDim);
  if (type == KvType::f32) {
    float* f = reinterpret_cast<float*>(block);
    for (uint32_t d = 0; d < headDim; d++) f[d * KV_BLOCK + i] = k[d];
    for (uint32_t d = 0; d < headDim; d++) f[(KV_BLOCK + i) * headDim + d] = v[d];
    return;
  }
  uint8_t* const values = block + KV_BLOCK * headDim;
  float* const scales = reinterpret_cast<float*>(block + 2 * KV_BLOCK * headDim);
  hadamard(k, headDim);
  hadamard(v, headDim);
  scales[i] = roundCodes(k, headDim, kKeyCodes, [&](uint32_t d, int32_t code) { block[(d / 4 * KV_BLOCK + i) * 4 + d % 4] = static_cast<uint8_t>(kKeyZero + code); });
  scales[KV_BLOCK + i] = roundCodes(v, headDim, kValueCodes, [&](uint32_t d, int32_t code) { values[(i / 4 * headDim + d) * 4 + i % 4] = static_cast<uint8_t>(code); });
}

}  // namespace lutra

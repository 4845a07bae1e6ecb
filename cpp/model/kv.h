// The KV cache of a session: [layer][KV head][block of positions]; blocks: ops.h.
#pragma once
#include "ops.h"

namespace lutra {

// Bytes of one layer and KV head.
inline size_t kvHeadBytes(KvType type, uint32_t headDim, uint32_t contextLength) {
  return static_cast<size_t>(roundUp(contextLength, KV_BLOCK) / KV_BLOCK) * kvBlockBytes(type, headDim);
}

// Puts a position's key and value, [headDim] each, into the blocks of one layer and KV head. Works in k and v.
void storeKv(KvType type, uint8_t* blocks, uint32_t position, uint32_t headDim, float* k, float* v);

}  // namespace lutra

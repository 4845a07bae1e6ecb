// IEEE half precision, finite values (importers refuse others): the bits moved into place, times 2^112 to fix the
// exponent's bias. Exact for subnormals too. On lanes: halfToFloatV.
#pragma once
#include "math.h"

namespace lutra {
constexpr float kHalfBias = 5.192296858534828e33f;  // 2^112
inline float halfToFloat(uint16_t h) {
  return bitsToFloat((h & 0x8000u) << 16 | (h & 0x7fffu) << 13) * kHalfBias;
}
}  // namespace lutra

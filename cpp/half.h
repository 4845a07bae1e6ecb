// IEEE half precision, finite values (importers refuse others): the bits moved into place, times 2^112 to fix the
// exponent's bias. Exact for subnormals too. On lanes: halfToFloatV.
#pragma once
#include "math.h"

namespace lutra {
constexpr float kHalfBias = 5.192296858534828e33f;  // 2^112
inline float halfToFloat(uint16_t h) {
  return bitsToFloat((h & 0x8000u) << 16 | (h & 0x7fffu) << 13) * kHalfBias;
}

// The half nearest to x >= 0, ties to even, as a float; beyond the largest half, that one. Halves in [2^e, 2^(e + 1)) are
// 2^(e - 10) apart and below 2^-14 2^-24: x is added to and taken from a number whose own steps are that wide.
inline float nearestHalf(float x) {
  if (x >= 65504.0f) return 65504.0f;
  const uint32_t exponent = floatToBits(x) >> 23;
  const float step = bitsToFloat(((exponent < 113 ? 113 : exponent) + 13) << 23);
  return (x + step) - step;
}
}  // namespace lutra

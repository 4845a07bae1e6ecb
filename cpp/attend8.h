// What the int8 KV cache shares with both forms of attention over it: how vectors are turned and rounded.
//
// Queries, keys and values are turned by a Hadamard matrix H of n rows, the largest power of two that divides headDim, n
// dimensions at a time: q k = (Hq)(Hk) / n, and the sum of values is turned back once. Afterwards no dimension stands out,
// so that 7 bits are enough for a key (QuaRot, arXiv 2404.00456).
//
//   codes: key 64 + round(k / s), |.| <= 63; query and value round(x / s), |.| <= 127; softmax weights 0 .. 127
//
// Kernels add products in 16 bits, wrapping on the way; the ends fit because codes are bounded:
//   scores  dimensions d of a segment are summed apart for d % 4 < 2 and d % 4 >= 2, and in each of the two sets codes of
//           keys and of queries have a norm below 181 = sqrt(2^15): |sum| < 2^15 (Cauchy-Schwarz)
//   values  in a block of 16 positions likewise. Weights of positions i, i + 4, i + 8, i + 12 add up to 127 and, rounded, to
//           129 at most, so 8 of them to 258, times 127 < 2^15
#pragma once
#include <initializer_list>
#include "math.h"
#include "ops.h"

namespace lutra {

constexpr uint32_t kSegment = 64;  // dimensions
constexpr int32_t kKeyZero = 64;   // the code of 0
// Largest code, and norm of a set before rounding, which can add sqrt(32) / 2.
struct Codes { float most, norm; };
constexpr Codes kKeyCodes = {63.0f, 178.0f}, kQueryCodes = {127.0f, 178.0f}, kValueCodes = {127.0f, __builtin_inff()};
// What four softmax weights add up to at most before they are rounded, and so each of them.
constexpr float kWeightSum = 127.0f;

// The largest power of two that divides n.
constexpr uint32_t powerIn(uint32_t n) { return n & -n; }
// What turned products are multiplied by to give scores to the base 2.
inline float attendScale(uint32_t headDim) { return kLog2E / (__builtin_sqrtf(static_cast<float>(headDim)) * static_cast<float>(powerIn(headDim))); }

// x [n] turned, not scaled: twice is n times the same.
inline void hadamard(float* x, uint32_t n) {
  const uint32_t size = powerIn(n);
  for (uint32_t half = 1; half < size; half *= 2) {
    for (uint32_t first = 0; first < n; first += 2 * half) {
      for (uint32_t i = first; i < first + half; i++) {
        const float a = x[i], b = x[i + half];
        x[i] = a + b, x[i + half] = a - b;
      }
    }
  }
}

// The scale of a vector whose largest value is `peak`, and the largest sum of squares of a set `square`; 0 if there is nothing.
inline float codeScale(float peak, float square, Codes codes) {
  const float byMost = peak / codes.most, byNorm = __builtin_sqrtf(square) / codes.norm;
  return peak < 1e-30f ? 0.0f : byMost > byNorm ? byMost : byNorm;
}

// put(d, round(x[d] / scale)) for the n values of x, n a multiple of 8. Returns scale.
inline float roundCodes(const float* x, uint32_t n, Codes codes, auto put) {
  float peak = 0, square = 0;
  for (uint32_t first = 0; first < n; first += kSegment) {
    float s[4] = {};
    for (uint32_t d = first; d < n && d < first + kSegment; d++) {
      peak = absolute(x[d]) > peak ? absolute(x[d]) : peak;
      s[d % 4] += x[d] * x[d];
    }
    for (const float set : {s[0] + s[1], s[2] + s[3]}) square = set > square ? set : square;
  }
  const float scale = codeScale(peak, square, codes), inverse = scale == 0 ? 0.0f : 1.0f / scale;
  for (uint32_t d = 0; d < n; d++) put(d, static_cast<int32_t>(nearest(x[d] * inverse)));
  return scale;
}

}  // namespace lutra

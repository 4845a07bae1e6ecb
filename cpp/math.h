// Elementary functions, the same bits on every machine: only + - * / sqrt and bit operations, in a fixed order.
// No libm: its results differ between builds.
#pragma once
#include <stdint.h>

namespace lutra {

inline float bitsToFloat(uint32_t u) { return __builtin_bit_cast(float, u); }
inline uint32_t floatToBits(float f) { return __builtin_bit_cast(uint32_t, f); }
inline float nearest(float x) { return __builtin_nearbyintf(x); }  // f32.nearest: ties to even
inline float absolute(float x) { return __builtin_fabsf(x); }

// A sum over many values is kept in four partial sums (index mod 4) and joined in this order.
inline float joined(const float s[4]) { return (s[0] + s[1]) + (s[2] + s[3]); }

// e^x for x in [-87.3, 88.3], beyond that the value at the border; relative error below 2e-7.
// x = n ln 2 + r, |r| <= ln(2)/2; e^r by a degree-6 polynomial (coefficients: Cephes expf). expV() does the same on lanes.
constexpr float kExpMin = -87.33654f, kExpMax = 88.37626f, kLog2E = 1.44269504088896341f;
constexpr float kLn2Hi = 0.693359375f, kLn2Lo = -2.12194440e-4f;
constexpr float kExpPoly[6] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                               4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
inline float exponential(float x) {
  x = x < kExpMin ? kExpMin : x;
  x = x > kExpMax ? kExpMax : x;
  const float n = nearest(x * kLog2E);
  const float r = (x - n * kLn2Hi) - n * kLn2Lo;
  float p = kExpPoly[0];
  for (int i = 1; i < 6; i++) p = p * r + kExpPoly[i];
  p = (p * (r * r) + r) + 1.0f;
  return p * bitsToFloat(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
}

// 2^x for x in [-64, 0], below that 2^-64; relative error below 2e-3, half of what the largest
// softmax weight loses when it is rounded to 7 bits, and 1 at 0 (minimax). power2V() does the same on lanes.
constexpr float kPower2Min = -64.0f, kPower2Poly[3] = {0.23986109730330812f, 0.7029406862157234f, 1.0f};
// x + kNoFraction is x rounded to an integer, which stands in the low bits: |x| <= 2^22, ties to even.
constexpr float kNoFraction = 12582912.0f;
inline float power2(float x) {
  x = x < kPower2Min ? kPower2Min : x;
  const float bits = x + kNoFraction, r = x - (bits - kNoFraction);
  float p = kPower2Poly[0];
  for (int i = 1; i < 3; i++) p = p * r + kPower2Poly[i];
  return bitsToFloat(floatToBits(p) + (floatToBits(bits) << 23));
}

// Double precision, for what is computed rarely: RoPE angles and log-probabilities. Error below 1e-14 in
// the ranges used (e^x: |x| < 700, relative; ln x: x normal, relative; sine and cosine: |x| < 1e6, absolute).
double exponential64(double x);
double logarithm64(double x);
void sineCosine64(double x, double* sine, double* cosine);

}  // namespace lutra

#include "math.h"

namespace lutra {
namespace {
constexpr double kLn2Hi64 = 6.93147180369123816490e-01, kLn2Lo64 = 1.90821492927058770002e-10;
constexpr double kHalfPiHi = 1.57079632673412561417e+00, kHalfPiMid = 6.07710050630396597660e-11,
                 kHalfPiLo = 2.02226624879595063154e-21;
double nearest64(double x) { return __builtin_nearbyint(x); }
double powerOfTwo(int64_t n) { return __builtin_bit_cast(double, static_cast<uint64_t>(n + 1023) << 52); }
}  // namespace

double exponential64(double x) {
  x = x < -700 ? -700 : x > 700 ? 700 : x;
  const double n = nearest64(x * 1.4426950408889634);
  const double r = (x - n * kLn2Hi64) - n * kLn2Lo64;
  double term = 1, sum = 1;  // Taylor: |r| <= 0.35, the 17th term is below 1e-22
  for (int i = 1; i <= 17; i++) {
    term *= r / i;
    sum += term;
  }
  return sum * powerOfTwo(static_cast<int64_t>(n));
}

double logarithm64(double x) {
  uint64_t bits = __builtin_bit_cast(uint64_t, x);
  int64_t e = static_cast<int64_t>(bits >> 52) - 1023;
  double m = __builtin_bit_cast(double, (bits & 0xfffffffffffffull) | 0x3ff0000000000000ull);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    e++;
  }
  const double s = (m - 1) / (m + 1), s2 = s * s;  // ln m = 2 artanh s, |s| <= 0.172
  double sum = 0;
  for (int i = 25; i >= 1; i -= 2) sum = sum * s2 + 1.0 / i;
  return (2 * s * sum + static_cast<double>(e) * kLn2Lo64) + static_cast<double>(e) * kLn2Hi64;
}

void sineCosine64(double x, double* sine, double* cosine) {
  const double n = nearest64(x * 0.63661977236758134308);
  const double r = ((x - n * kHalfPiHi) - n * kHalfPiMid) - n * kHalfPiLo;
  const double r2 = r * r;
  double s = 0, c = 0;  // Taylor: |r| <= 0.79
  for (int i = 19; i >= 3; i -= 2) s = (s + 1) * -r2 / (i * (i - 1));
  for (int i = 20; i >= 2; i -= 2) c = (c + 1) * -r2 / (i * (i - 1));
  s = r * (1 + s);
  c = 1 + c;
  switch (static_cast<int64_t>(n) & 3) {
    case 0: *sine = s, *cosine = c; break;
    case 1: *sine = c, *cosine = -s; break;
    case 2: *sine = -s, *cosine = -c; break;
    default: *sine = -c, *cosine = s;
  }
}

}  // namespace lutra

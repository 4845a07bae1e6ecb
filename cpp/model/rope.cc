// RoFormer, eq. 15: pair i turns by theta^(-2i / headDim) a position. Models made for longer texts turn slower:
//   linear  all of them, factor times (Chen et al. 2023, Position Interpolation)
//   llama3  those whose wave is longer than the first text length / low; waves shorter than length / high keep their
//           speed, between them both are blended (Llama 3.1's reference code)
//   yarn    as llama3, but blended along i between the pairs that turn `high` and `low` times within the first text
//           length, and with cosines and sines that are multiplied by the attention factor, by itself 0.1 ln factor + 1 (Peng et al. 2023, sections 3.2 and 3.4)
//   divisors, whatever the scaling: a list in the file that frequencies are divided by (GGUF's rope_freqs)
#include "model/rope.h"
#include "math.h"

namespace lutra {
namespace {

constexpr double kTwoPi = 6.283185307179586;

double between(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

// The i whose wave fits `turns` times into the first text length.
double pairOfTurns(const Rope& rope, uint32_t headDim, double turns) {
  return headDim * logarithm64(rope.originalLength / (turns * kTwoPi)) / (2 * logarithm64(rope.theta));
}

double llama3(const Rope& rope, double frequency) {
  const double wave = kTwoPi / frequency;
  if (wave < rope.originalLength / rope.high) return frequency;
  if (wave > rope.originalLength / rope.low) return frequency / rope.factor;
  const double kept = (rope.originalLength / wave - rope.low) / (rope.high - rope.low);
  return (1 - kept) * frequency / rope.factor + kept * frequency;
}

}  // namespace

double ropeFrequencies(const Rope& rope, uint32_t headDim, double* frequencies) {
  const double logTheta = logarithm64(rope.theta);
  const auto scaling = static_cast<RopeScaling>(rope.scaling);
  double first = 0, last = 0;  // the pairs between which yarn blends
  if (scaling == RopeScaling::yarn) {
    first = pairOfTurns(rope, headDim, rope.high), last = pairOfTurns(rope, headDim, rope.low);
    if (rope.truncate) first = __builtin_floor(first), last = __builtin_ceil(last);
    first = first > 0 ? first : 0, last = last < headDim - 1 ? last : headDim - 1;
    if (first == last) last += 0.001;
  }
  for (uint32_t i = 0; i < headDim / 2; i++) {
    const double f = exponential64(-2.0 * i / headDim * logTheta);
    switch (scaling) {
      case RopeScaling::none: frequencies[i] = f; break;
      case RopeScaling::linear: frequencies[i] = f / rope.factor; break;
      case RopeScaling::llama3: frequencies[i] = llama3(rope, f); break;
      case RopeScaling::yarn: {
        const double slowed = between((i - first) / (last - first), 0, 1);
        frequencies[i] = f / rope.factor * slowed + f * (1 - slowed);
      }
    }
    if (rope.divisors) frequencies[i] /= static_cast<double>(rope.divisors[i]);
  }
  if (scaling != RopeScaling::yarn) return 1;
  if (rope.attention > 0) return rope.attention;
  return rope.factor > 1 ? 0.1 * logarithm64(rope.factor) + 1 : 1;
}

void ropeAngles(const double* frequencies, double attention, uint32_t headDim, uint32_t position, float* angles) {
  const uint32_t half = headDim / 2;
  for (uint32_t i = 0; i < half; i++) {
    double sine, cosine;
    sineCosine64(position * frequencies[i], &sine, &cosine);
    angles[i] = static_cast<float>(cosine * attention);
    angles[i + half] = static_cast<float>(sine * attention);
  }
}

}  // namespace lutra

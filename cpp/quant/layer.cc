#include "quant/layer.h"

namespace lutra::quant {

void ropeTable(float* table, uint32_t positions, uint32_t headDim, double theta) {
  const uint32_t half = headDim / 2;
  const double logTheta = logarithm64(theta);
  for (uint32_t i = 0; i < half; i++) {
    const double frequency = exponential64(-2.0 * i / headDim * logTheta);
    for (uint32_t position = 0; position < positions; position++) {
      double sine, cosine;
      sineCosine64(position * frequency, &sine, &cosine);
      table[position * headDim + i] = static_cast<float>(cosine);
      table[position * headDim + half + i] = static_cast<float>(sine);
    }
  }
}

void ropeRow(float* row, const float* table, uint32_t position, uint32_t heads, uint32_t headDim) {
  const uint32_t half = headDim / 2;
  const float *cosine = table + static_cast<size_t>(position) * headDim, *sine = cosine + half;
  for (uint32_t h = 0; h < heads; h++, row += headDim) {
    for (uint32_t i = 0; i < half; i++) {
      const float a = row[i], b = row[i + half];
      row[i] = a * cosine[i] - b * sine[i];
      row[i + half] = a * sine[i] + b * cosine[i];
    }
  }
}

void normRow(float* h, const float* x, const float* w, uint32_t n, float eps) {
  float s[4] = {};
  uint32_t i = 0;
  V sums = splat(0);
  for (; i + 4 <= n; i += 4) sums = add(sums, mul(load(x + i), load(x + i)));
  store(s, sums);
  for (; i < n; i++) s[i % 4] += x[i] * x[i];
  const float inverse = 1.0f / __builtin_sqrtf(joined(s) / static_cast<float>(n) + eps);
  for (i = 0; i < n; i++) h[i] = (x[i] * inverse) * w[i];
}

void gatedRow(float* h, const float* gate, const float* up, uint32_t n, bool silu) {
  uint32_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const V g = load(gate + i), r = wasm_f32x4_pmax(splat(0), g);
    const V a = silu ? wasm_f32x4_div(g, add(splat(1), exponentialV(wasm_f32x4_neg(g)))) : mul(r, r);
    store(h + i, mul(a, load(up + i)));
  }
  for (; i < n; i++) {
    const float g = gate[i], r = g > 0 ? g : 0;
    h[i] = (silu ? g / (1.0f + exponential(-g)) : r * r) * up[i];
  }
}

// scores[0 .. n) -> softmax of scale * scores; zeros up to `total`.
static void softmax(float* scores, uint32_t n, uint32_t total, float scale) {
  float peak = scores[0];
  for (uint32_t i = 1; i < n; i++) peak = peak < scores[i] ? scores[i] : peak;
  float s[4] = {};
  uint32_t i = 0;
  V sums = splat(0);
  for (; i + 4 <= n; i += 4) {
    const V e = exponentialV(mul(sub(load(scores + i), splat(peak)), splat(scale)));
    store(scores + i, e);
    sums = add(sums, e);
  }
  store(s, sums);
  for (; i < n; i++) s[i % 4] += scores[i] = exponential((scores[i] - peak) * scale);
  const float inverse = 1.0f / joined(s);
  for (i = 0; i < n; i++) scores[i] *= inverse;
  for (; i < total; i++) scores[i] = 0;
}

void attendHead(float* out, const float* q, uint32_t ldQ, const float* k, const float* v, uint32_t ldK, Sequence sequence, uint32_t headDim, void* scratch) {
  float* scores = reinterpret_cast<float*>(static_cast<uint8_t*>(scratch) + kGemmScratch);
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(headDim));
  const size_t firstQ = static_cast<size_t>(sequence.begin) * ldQ, firstK = static_cast<size_t>(sequence.begin) * ldK;
  for (uint32_t begin = 0; begin < sequence.length; begin += kQueries) {
    const uint32_t end = begin + kQueries < sequence.length ? begin + kQueries : sequence.length;
    const size_t at = firstQ + static_cast<size_t>(begin) * ldQ;
    gemm(scores, end, end - begin, end, headDim, {q + at, ldQ, 1}, {k + firstK, 1, ldK}, Store::set, scratch);
    for (uint32_t i = begin; i < end; i++) softmax(scores + (i - begin) * end, i + 1, end, scale);
    gemm(out + at, ldQ, end - begin, headDim, end, {scores, end, 1}, {v + firstK, ldK, 1}, Store::set, scratch);
  }
}

}  // namespace lutra::quant

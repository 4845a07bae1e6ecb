#include "quant/layer.h"

namespace lutra::quant {

void ropeRow(float* row, const float* table, uint32_t position, uint32_t heads, uint32_t headDim, float direction) {
  const uint32_t half = headDim / 2;
  const float *cosine = table + static_cast<size_t>(position) * headDim, *sine = cosine + half;
  for (uint32_t h = 0; h < heads; h++, row += headDim) {
    for (uint32_t i = 0; i < half; i++) {
      const float a = row[i], b = row[i + half], s = direction * sine[i];
      row[i] = a * cosine[i] - b * s;
      row[i + half] = a * s + b * cosine[i];
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

// Attention of queries [begin, end): softmax of their scores, [end - begin][end].
static void scoresOf(float* scores, const float* q, uint32_t ldQ, const float* k, uint32_t ldK, uint32_t begin, uint32_t end, uint32_t headDim, void* scratch) {
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(headDim));
  gemm(scores, end, end - begin, end, headDim, {q, ldQ, 1}, {k, 1, ldK}, Store::set, scratch);
  for (uint32_t i = begin; i < end; i++) softmax(scores + (i - begin) * end, i + 1, end, scale);
}

void attendHead(float* out, const float* q, uint32_t ldQ, const float* k, const float* v, uint32_t ldK, Sequence sequence, uint32_t headDim, void* scratch) {
  float* scores = reinterpret_cast<float*>(static_cast<uint8_t*>(scratch) + kGemmScratch);
  const size_t firstQ = static_cast<size_t>(sequence.begin) * ldQ, firstK = static_cast<size_t>(sequence.begin) * ldK;
  for (uint32_t begin = 0; begin < sequence.length; begin += kQueries) {
    const uint32_t end = begin + kQueries < sequence.length ? begin + kQueries : sequence.length;
    const size_t at = firstQ + static_cast<size_t>(begin) * ldQ;
    scoresOf(scores, q + at, ldQ, k + firstK, ldK, begin, end, headDim, scratch);
    gemm(out + at, ldQ, end - begin, headDim, end, {scores, end, 1}, {v + firstK, ldK, 1}, Store::set, scratch);
  }
}

// h = x w / rms: dx = w dh / rms - x (sum of x w dh) / (n rms^3)
void normRowBack(float* dx, const float* dh, const float* x, const float* w, uint32_t n, float eps) {
  float s[4] = {}, p[4] = {};
  for (uint32_t i = 0; i < n; i++) {
    s[i % 4] += x[i] * x[i];
    p[i % 4] += x[i] * (w[i] * dh[i]);
  }
  const float mean = joined(s) / static_cast<float>(n) + eps, inverse = 1.0f / __builtin_sqrtf(mean);
  const float pull = joined(p) / (static_cast<float>(n) * mean) * inverse;
  for (uint32_t i = 0; i < n; i++) dx[i] += w[i] * dh[i] * inverse - x[i] * pull;
}

// silu = g s, s = 1 / (1 + e^-g): its slope is s (1 + g (1 - s)). relu2: g^2 above 0.
void gatedRowBack(float* gate, float* up, const float* dh, uint32_t n, bool silu) {
  for (uint32_t i = 0; i < n; i++) {
    const float g = gate[i], r = g > 0 ? g : 0, s = 1.0f / (1.0f + exponential(-g)), u = up[i];
    up[i] = dh[i] * (silu ? g * s : r * r);
    gate[i] = dh[i] * u * (silu ? s * (1.0f + g * (1.0f - s)) : 2.0f * r);
  }
}

// P = softmax(c q kᵀ), out = P v. dP = dOut vᵀ, dS = c P (dP - sum of P dP), dq = dS k, dk += dSᵀ q, dv += Pᵀ dOut.
void attendHeadBack(float* dq, float* dk, float* dv, const float* dOut, const float* q, uint32_t ldQ, const float* k, const float* v, uint32_t ldK,
                    Sequence sequence, uint32_t headDim, void* scratch) {
  float* scores = reinterpret_cast<float*>(static_cast<uint8_t*>(scratch) + kGemmScratch);
  float* slopes = scores + kQueries * ((sequence.length + 3) / 4 * 4);
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(headDim));
  const size_t firstQ = static_cast<size_t>(sequence.begin) * ldQ, firstK = static_cast<size_t>(sequence.begin) * ldK;
  for (uint32_t begin = 0; begin < sequence.length; begin += kQueries) {
    const uint32_t end = begin + kQueries < sequence.length ? begin + kQueries : sequence.length, n = end - begin;
    const size_t at = firstQ + static_cast<size_t>(begin) * ldQ;
    scoresOf(scores, q + at, ldQ, k + firstK, ldK, begin, end, headDim, scratch);
    gemm(slopes, end, n, end, headDim, {dOut + at, ldQ, 1}, {v + firstK, 1, ldK}, Store::set, scratch);
    gemm(dv + firstK, ldK, end, headDim, n, {scores, 1, end}, {dOut + at, ldQ, 1}, Store::add, scratch);
    for (uint32_t i = 0; i < n; i++) {
      float *p = scores + i * end, *d = slopes + i * end, sum[4] = {};
      for (uint32_t j = 0; j < end; j++) sum[j % 4] += p[j] * d[j];
      const float mean = joined(sum);
      for (uint32_t j = 0; j < end; j++) d[j] = scale * p[j] * (d[j] - mean);
    }
    gemm(dq + at, ldQ, n, headDim, end, {slopes, end, 1}, {k + firstK, ldK, 1}, Store::set, scratch);
    gemm(dk + firstK, ldK, end, headDim, n, {slopes, 1, end}, {q + at, ldQ, 1}, Store::add, scratch);
  }
}

}  // namespace lutra::quant

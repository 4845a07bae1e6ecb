// Reference: preparation of activations. Defines how inputs are rounded.
#include "math.h"
#include "reference/reference.h"

namespace lutra::reference {
namespace {

constexpr uint32_t kOctet = 8, kQuad = 4;

float absMax(const float* x, uint32_t n) {
  float m = 0;
  for (uint32_t i = 0; i < n; i++) m = absolute(x[i]) > m ? absolute(x[i]) : m;
  return m;
}

// Scales below this are taken as zero: their reciprocals would overflow.
constexpr float kTiny = 1e-30f;
float reciprocal(float d) { return d < kTiny ? 0.0f : 1.0f / d; }

// All 16 sums of +-q over four int8 values, exact in two 7-bit halves: entry e has +q_j where bit j of e is set.
// Stored is sum + 512 = 128 * high + low; 512 keeps it positive.
void exactTable(uint8_t* table, const int32_t q[4]) {
  for (uint32_t e = 0; e < 16; e++) {
    int32_t sum = 512;
    for (uint32_t j = 0; j < 4; j++) sum += (e >> j & 1) ? q[j] : -q[j];
    table[e] = static_cast<uint8_t>(sum & 127);
    table[16 + e] = static_cast<uint8_t>(sum >> 7);
  }
}

}  // namespace

void prepareF32(const float* x, uint32_t, uint32_t m, Acts& a, uint32_t begin, uint32_t end) {
  float* out = reinterpret_cast<float*>(a.table) + m * a.ld;
  for (uint32_t k = begin * a.groupSize; k < end * a.groupSize; k++) out[k] = x[k];
}

// d = max(absmax / 32767, sum|x| / 2^24 * (1 + 2^-12)): with q = round(x / d), 127 * sum|q| < 2^31.
void prepareI16(const float* x, uint32_t cols, uint32_t m, Acts& a, uint32_t begin, uint32_t end) {
  float s[4] = {};
  for (uint32_t k = 0; k < cols; k++) s[k % 4] += absolute(x[k]);
  const float byMax = absMax(x, cols) / 32767.0f, bySum = joined(s) * (1.000244140625f / 16777216.0f);
  a.scale[m] = byMax > bySum ? byMax : bySum;
  const float inverse = reciprocal(a.scale[m]);
  int16_t* out = reinterpret_cast<int16_t*>(a.table) + m * a.ld;
  for (uint32_t k = begin * a.groupSize; k < end * a.groupSize; k++) out[k] = static_cast<int16_t>(nearest(x[k] * inverse));
}

// BitNet b1.58: q = round(x * 127 / max(absmax, 1e-5)), clamped to int8.
void prepareI8(const float* x, uint32_t cols, uint32_t m, Acts& a, uint32_t begin, uint32_t end) {
  const float peak = absMax(x, cols), bounded = peak < 1e-5f ? 1e-5f : peak;
  const float inverse = 127.0f / bounded;
  a.scale[m] = bounded / 127.0f;
  const uint32_t quads = a.groupSize / kQuad;
  for (uint32_t g = begin; g < end; g++) {
    for (uint32_t t = 0; t < quads; t++) {
      int32_t q[4];
      for (uint32_t j = 0; j < kQuad; j++) q[j] = static_cast<int32_t>(nearest(x[g * a.groupSize + t * kQuad + j] * inverse));
      exactTable(a.table + ((g * a.m + m) * quads + t) * 32, q);
    }
  }
}

namespace {

// Tables of rounded sums. With d = max over `together` columns of sum|x| / 2 / most, entry e of a quad is
// round(sum +-x_j / (2 d) - down) + bias; sums over the group are in units of `unit` d.
void prepareLut(const float* x, uint32_t m, Acts& a, uint32_t begin, uint32_t end, uint32_t together, float most, int32_t bias, float down, float unit) {
  const uint32_t quads = a.groupSize / kQuad;
  for (uint32_t g = begin; g < end; g++) {
    const float* v = x + g * a.groupSize;
    float peak = 0, s[4] = {};
    for (uint32_t o = 0; o < a.groupSize; o += together) {
      float size[4] = {};
      for (uint32_t k = 0; k < together; k++) {
        size[k % 4] += absolute(v[o + k]);
        s[k % 4] += v[o + k];
      }
      const float sum = (size[0] + size[2]) + (size[1] + size[3]);
      peak = sum > peak ? sum : peak;
    }
    const float d = (peak * 0.5f) / most, inverse = reciprocal(d), half = 0.5f * inverse, sum = joined(s);
    const uint32_t at = g * a.m + m;
    a.scale[at] = d < kTiny ? 0.0f : unit * d;
    a.sum[at] = sum;
    a.sumq[at] = static_cast<int32_t>(nearest(sum * (inverse / unit)));
    for (uint32_t t = 0; t < quads; t++) {
      float q[4];
      for (uint32_t j = 0; j < 4; j++) q[j] = v[t * kQuad + j] * half;
      for (uint32_t e = 0; e < 16; e++) {
        const float low = ((e & 1 ? q[0] : -q[0]) + (e & 2 ? q[1] : -q[1])) - down;
        const float high = (e & 8 ? q[3] : -q[3]) + (e & 4 ? q[2] : -q[2]);
        a.table[(at * quads + t) * 16 + e] = static_cast<uint8_t>(static_cast<int32_t>(nearest(low + high)) + bias);
      }
    }
  }
}

}  // namespace

// The two entries of an octet sum to 128 + [-127, 127], which fits a byte. Averages of two octets are half the sum, hence
// the unit, and by 1/4 too large at the mean, which is 1/8 for each of the four entries.
void prepareLut7(const float* x, uint32_t, uint32_t m, Acts& a, uint32_t begin, uint32_t end) { prepareLut(x, m, a, begin, end, kOctet, 126.0f, 64, 0.125f, 2.0f); }
void prepareLut8(const float* x, uint32_t, uint32_t m, Acts& a, uint32_t begin, uint32_t end) { prepareLut(x, m, a, begin, end, kQuad, 126.5f, 128, 0.0f, 1.0f); }

// int8 values per group, d = absmax / 127. The tables hold sums of +-q, twice the {0,1} sums, hence d / 2.
void prepareExact(const float* x, uint32_t, uint32_t m, Acts& a, uint32_t begin, uint32_t end) {
  const uint32_t quads = a.groupSize / kQuad;
  for (uint32_t g = begin; g < end; g++) {
    const float* v = x + g * a.groupSize;
    const float d = absMax(v, a.groupSize) / 127.0f, inverse = reciprocal(d);
    const uint32_t at = g * a.m + m;
    int32_t total = 0;
    for (uint32_t t = 0; t < quads; t++) {
      int32_t q[4];
      for (uint32_t j = 0; j < kQuad; j++) {
        q[j] = static_cast<int32_t>(nearest(v[t * kQuad + j] * inverse));
        total += q[j];
      }
      exactTable(a.table + (at * quads + t) * 32, q);
    }
    a.scale[at] = d < kTiny ? 0.0f : d * 0.5f;
    a.sum[at] = d < kTiny ? 0.0f : d * static_cast<float>(total);
    a.sumq[at] = 2 * total;
  }
}

}  // namespace lutra::reference

// Reference: products of a part of a weight matrix with prepared activations. One row, one input vector at a time.
#include "half.h"
#include "reference/products.h"
#include "reference/reference.h"

namespace lutra::reference {
void matMulF32(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end) {
  eachOutput(w, a, out, ld, begin, end, [&](const uint8_t* tile, uint32_t r, uint32_t m) {
    const float* x = reinterpret_cast<const float*>(a.table) + m * a.ld + w.colBegin;
    float sum = 0;
    for (uint32_t k = 0; k < w.cols; k++) sum += x[k] * reinterpret_cast<const float*>(tile)[k * TILE_ROWS + r];
    return sum;
  });
}

void matMulInt8(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end) {
  const bool grouped = w.groupSize != 0;  // with a half for each row and group: sums are exact in a group, then f32
  const uint32_t groupSize = grouped ? w.groupSize : roundUp(w.cols, 2), stride = TILE_ROWS * (groupSize + (grouped ? 2 : 0));
  eachOutput(w, a, out, ld, begin, end, [&](const uint8_t* tile, uint32_t r, uint32_t m) {
    const int16_t* x = reinterpret_cast<const int16_t*>(a.table) + m * a.ld + w.colBegin;
    float y = 0;
    for (uint32_t begin = 0; begin < w.cols; begin += groupSize, tile += stride) {
      int32_t sum = 0;
      for (uint32_t k = 0; k < groupSize && begin + k < w.cols; k++) sum += x[begin + k] * static_cast<int8_t>(tile[k / 2 * 32 + 2 * r + k % 2]);
      if (!grouped) return static_cast<float>(sum) * a.scale[m];
      y += static_cast<float>(sum) * parameter(tile + TILE_ROWS * groupSize, Coding::f16, 0, r);
    }
    return y * a.scale[m];
  });
}

// Per group g, with I_p the looked-up sum of plane p (w = z' + sum s_p (b_p - 1/2), z' = z + sum s_p / 2):
//   y += scale * sum_p s_p I_p + z' * sum            f32, f16
//   y += scale * float(sum_p s_p I_p + z' * sumq)    i16: integers, wrapping
void matMulPlanes(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end) {
  const Coding coding = static_cast<Coding>(w.coding);
  const uint32_t P = w.planes, stride = groupBytes(P, w.groupSize, P + 1, coding);
  const uint32_t first = w.colBegin / w.groupSize, groups = roundUp(w.cols, w.groupSize) / w.groupSize;
  eachOutput(w, a, out, ld, begin, end, [&](const uint8_t* tile, uint32_t r, uint32_t m) {
    float y = 0;
    for (uint32_t g = 0; g < groups; g++) {
      const uint8_t* codes = tile + g * stride;
      const uint8_t* parameters = codes + w.groupSize / 8 * P * TILE_ROWS;
      const uint32_t at = (first + g) * a.m + m;
      if (coding == Coding::i16) {
        const int16_t* q = reinterpret_cast<const int16_t*>(parameters) + r;
        uint32_t sum = static_cast<uint32_t>(q[P * TILE_ROWS] * static_cast<int16_t>(a.sumq[at]));
        for (uint32_t p = 0; p < P; p++) sum += static_cast<uint32_t>(q[p * TILE_ROWS] * lookUp(w, codes, p, r, a, first + g, m));
        y += static_cast<float>(static_cast<int32_t>(sum)) * a.scale[at];
      } else {
        float sum = 0, middle = 0;
        for (uint32_t p = 0; p < P; p++) {
          const float s = parameter(parameters, coding, p, r);
          sum += static_cast<float>(lookUp(w, codes, p, r, a, first + g, m)) * s;
          middle += s;
        }
        y += (parameter(parameters, coding, P, r) + middle * 0.5f) * a.sum[at];
        y += sum * a.scale[at];
      }
    }
    return y;
  });
}

// plane 0: w = +1, plane 1: w = -1; the tables give sums of +-q, so half the difference is the sum of w q: exact.
void matMulTernary(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end) {
  const Coding coding = static_cast<Coding>(w.coding);
  const uint32_t stride = groupBytes(2, w.groupSize, coding == Coding::none ? 0 : 1, coding);
  const uint32_t first = w.colBegin / w.groupSize, groups = roundUp(w.cols, w.groupSize) / w.groupSize;
  eachOutput(w, a, out, ld, begin, end, [&](const uint8_t* tile, uint32_t r, uint32_t m) {
    float y = 0;
    for (uint32_t g = 0; g < groups; g++) {
      const uint8_t* codes = tile + g * stride;
      const int32_t sum = (lookUp(w, codes, 0, r, a, first + g, m) - lookUp(w, codes, 1, r, a, first + g, m)) / 2;
      const float s = coding == Coding::none ? 1.0f : parameter(codes + w.groupSize / 8 * 2 * TILE_ROWS, coding, 0, r);
      y += static_cast<float>(sum) * s;
    }
    return y * a.scale[m];
  });
}

}  // namespace lutra::reference

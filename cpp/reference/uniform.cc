// Reference: products with uniform levels, w = s (q - h) + c or s q + z, where q = sum_p 2^p bit_p and h = (2^P - 1) / 2.
//
// Per group, with D = sum_p 2^p I_p (I_p: the looked-up sum of plane p, so scale D = sum (q - h) x):
//   f32, f16   y += (z + s h) sum;  y += (float(D) s) scale
//   f16mid     y += (float(2 D - sumq) (s / 2)) scale                                  z = -2^(P-1) s
//   i6         y += float(sc D) scale;  t += float(c) sum;                             at the end y Ss + t Sc
//   k4, k6     u += float(sc (2 D + (2^P - 1) sumq)) scale;  t += float(mn) sum;       per 256 columns y += u (d / 2); y -= t dmin
//   k8         u += float(sc (2 D - sumq)) scale;                                      per 256 columns y += u (d / 2)
#include "reference/products.h"
#include "reference/reference.h"

namespace lutra::reference {
void matMulUniform(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end) {
  const Coding coding = static_cast<Coding>(w.coding);
  const uint32_t P = w.planes, codeBytes = w.groupSize / 8 * P * TILE_ROWS, block = blockBytes(coding);
  const uint32_t first = w.colBegin / w.groupSize, groups = roundUp(w.cols, w.groupSize) / w.groupSize;
  const float h = 0.5f * static_cast<float>((1 << P) - 1);
  eachOutput(w, a, out, ld, begin, end, [&](const uint8_t* group, uint32_t r, uint32_t m) {
    const uint8_t* rowScale = w.rowScale + (group - w.data) / w.tileBytes * 64;
    float y = 0, t = 0, u = 0;
    for (uint32_t g = 0; g < groups; g++) {
      const uint8_t* p = group + codeBytes;
      const uint32_t at = (first + g) * a.m + m;
      const float scale = a.scale[at];
      int32_t D = 0;
      for (uint32_t plane = 0; plane < P; plane++) D += lookUp(w, group, plane, r, a, first + g, m) * (1 << plane);
      group += uniformGroupBytes(P, w.groupSize, coding);
      if (coding == Coding::f32 || coding == Coding::f16) {
        const float s = parameter(p, coding, 0, r);
        y += (parameter(p, coding, 1, r) + s * h) * a.sum[at];
        y += (static_cast<float>(D) * s) * scale;
        continue;
      }
      if (coding == Coding::f16mid) {
        y += (static_cast<float>(2 * D - a.sumq[at]) * (half(p, r) * 0.5f)) * scale;
        continue;
      }
      const Small small = smallOf(p, coding, r);
      if (coding == Coding::i6) {
        y += static_cast<float>(small.scale * D) * scale;
        t += static_cast<float>(small.offset) * a.sum[at];
        continue;
      }
      u += static_cast<float>(small.scale * (2 * D + (coding == Coding::k8 ? -1 : (1 << P) - 1) * a.sumq[at])) * scale;
      t += static_cast<float>(small.offset) * a.sum[at];
      if ((g + 1) * w.groupSize % BLOCK_COLUMNS == 0) {
        y += u * (half(group, r) * 0.5f);
        if (coding != Coding::k8) y -= t * half(group, TILE_ROWS + r);
        group += block;
        u = t = 0;
      }
    }
    return coding == Coding::i6 ? y * half(rowScale, r) + t * half(rowScale, TILE_ROWS + r) : y;
  });
}

}  // namespace lutra::reference

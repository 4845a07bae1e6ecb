#include "model/gather.h"
#include "reference/products.h"

namespace lutra {
namespace {

using namespace reference;

// s (q - middle) + z of a group of layout 'uniform' (reference/uniform.cc); the products are exact.
struct Levels {
  float s, middle, z;
};
Levels levelsOf(const Part& w, const uint8_t* parameters, const uint8_t* halves, uint32_t r) {
  const Coding coding = static_cast<Coding>(w.coding);
  const float zeroCode = static_cast<float>(1u << (w.planes - 1));
  switch (coding) {
    case Coding::f32: case Coding::f16: return {parameter(parameters, coding, 0, r), 0, parameter(parameters, coding, 1, r)};
    case Coding::f16mid: return {half(parameters, r), zeroCode, 0};
    default: break;
  }
  const Small small = smallOf(parameters, coding, r);
  const float s = half(halves, r) * static_cast<float>(small.scale);
  if (coding == Coding::k8) return {s, zeroCode, 0};
  const float z = half(halves, TILE_ROWS + r) * static_cast<float>(small.offset);
  if (coding == Coding::i6) return {s, 0.5f * static_cast<float>((1u << w.planes) - 1), z};
  return {s, 0, -z};
}

void gatherUniform(const Part& w, const uint8_t* tile, const uint8_t* rowScale, uint32_t r, float* x) {
  const Coding coding = static_cast<Coding>(w.coding);
  const uint32_t groupSize = w.groupSize, stride = uniformGroupBytes(w.planes, groupSize, coding), block = blockBytes(coding);
  for (uint32_t begin = 0; begin < w.cols; begin += groupSize, tile += stride) {
    const uint8_t* halves = block ? tile + (BLOCK_COLUMNS - begin % BLOCK_COLUMNS) / groupSize * stride : rowScale;
    const Levels l = levelsOf(w, tile + groupSize / 8 * w.planes * TILE_ROWS, halves, r);
    for (uint32_t k = 0; k < groupSize && begin + k < w.cols; k++) {
      uint32_t q = 0;
      for (uint32_t p = 0; p < w.planes; p++) q |= bitOf(tile, w.planes, p, r, k) << p;
      x[begin + k] = l.s * (static_cast<float>(q) - l.middle) + l.z;
    }
    if (block && (begin + groupSize) % BLOCK_COLUMNS == 0) tile += block;
  }
}

// The other layouts with codes, without the row scale.
float weightOf(const Part& w, const uint8_t* tile, uint32_t r, uint32_t k) {
  const Coding coding = static_cast<Coding>(w.coding);
  const Layout layout = static_cast<Layout>(w.layout);
  const uint32_t P = w.planes, values = layout == Layout::planes ? P + 1 : 1, g = w.groupSize ? k / w.groupSize : 0, in = k - g * w.groupSize;
  if (layout == Layout::int8) {
    const uint8_t* group = tile + g * TILE_ROWS * (w.groupSize + bytesOf(coding));
    const float q = static_cast<float>(static_cast<int8_t>(group[in / 2 * 32 + 2 * r + in % 2]));
    return w.groupSize ? q * parameter(group + TILE_ROWS * w.groupSize, coding, 0, r) : q;
  }
  const uint8_t* group = tile + g * groupBytes(P, w.groupSize, values, coding);
  const uint8_t* parameters = group + w.groupSize / 8 * P * TILE_ROWS;
  if (layout == Layout::ternary) {
    const float trit = static_cast<float>(static_cast<int32_t>(bitOf(group, P, 0, r, in)) - static_cast<int32_t>(bitOf(group, P, 1, r, in)));
    return coding == Coding::none ? trit : trit * parameter(parameters, coding, 0, r);
  }
  if (coding == Coding::i16) {  // (2 z' +- s_0 +- s_1 …) / 2, exact
    const int16_t* q = reinterpret_cast<const int16_t*>(parameters) + r;
    int32_t twice = 2 * q[P * TILE_ROWS];
    for (uint32_t p = 0; p < P; p++) twice += bitOf(group, P, p, r, in) ? q[p * TILE_ROWS] : -q[p * TILE_ROWS];
    return 0.5f * static_cast<float>(twice);
  }
  float sum = parameter(parameters, coding, P, r);
  for (uint32_t p = 0; p < P; p++) if (bitOf(group, P, p, r, in)) sum += parameter(parameters, coding, p, r);
  return sum;
}

}  // namespace

void gatherRow(const Linear& l, uint32_t row, float* x) {
  for (uint32_t p = 0; p < l.nParts; p++) {
    const Part& w = l.parts[p];
    const uint8_t* tile = w.data + static_cast<size_t>(row / TILE_ROWS) * w.tileBytes;
    const uint32_t r = row % TILE_ROWS;
    float* out = x + w.colBegin;
    if (w.layout == static_cast<uint32_t>(Layout::uniform)) {
      gatherUniform(w, tile, w.rowScale + static_cast<size_t>(row / TILE_ROWS) * 64, r, out);
    } else if (w.layout == static_cast<uint32_t>(Layout::f32)) {
      for (uint32_t k = 0; k < w.cols; k++) out[k] = reinterpret_cast<const float*>(tile)[k * TILE_ROWS + r];
    } else {
      for (uint32_t k = 0; k < w.cols; k++) out[k] = weightOf(w, tile, r, k) * l.rowScale[row];
    }
  }
}

}  // namespace lutra

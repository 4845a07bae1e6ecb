#include "model/linear.h"

namespace lutra {

namespace {
// Whole-vector preparations are cut into slices of this many columns only to share the work.
uint32_t groupOf(const Part& part, Prep prep) {
  return prep == Prep::f32 || prep == Prep::i16 ? kVectorPad : part.groupSize;
}
}  // namespace

Acts* ActsSet::find(const Part& part) {
  const Prep prep = kernelFor(part)->prep;
  for (uint32_t i = 0; i < n; i++) {
    if (acts[i].prep == prep && acts[i].groupSize == groupOf(part, prep)) return &acts[i];
  }
  return nullptr;
}

bool ActsSet::need(const Linear& l) {
  for (uint32_t p = 0; p < l.nParts; p++) {
    const Kernel* kernel = kernelFor(l.parts[p]);
    if (!kernel) return false;
    Acts* a = find(l.parts[p]);
    if (!a) {
      if (n == kMost) return false;
      a = &acts[n];
      maxCols[n++] = 0;
      *a = {kernel->prep, groupOf(l.parts[p], kernel->prep), 0, 0, nullptr, nullptr, nullptr, nullptr};
    }
    uint32_t& cols = maxCols[a - acts];
    if (cols < l.cols) cols = l.cols;
  }
  return true;
}

uint32_t ActsSet::mask(const Linear& l) {
  uint32_t bits = 0;
  for (uint32_t p = 0; p < l.nParts; p++) bits |= 1u << (find(l.parts[p]) - acts);
  return bits;
}

void ActsSet::allocate(Arena& arena, uint32_t maxRows) {
  for (uint32_t i = 0; i < n; i++) {
    Acts& a = acts[i];
    const uint64_t cols = padded(maxCols[i]), groups = cols / a.groupSize * maxRows;
    const uint64_t perColumn = a.prep == Prep::i16 ? 2 : isExact(a.prep) ? 8 : 4;
    a.ld = static_cast<uint32_t>(cols);
    a.table = arena.take<uint8_t>(cols * maxRows * perColumn);
    a.scale = arena.take<float>(groups);
    a.sum = arena.take<float>(groups);
    a.sumq = arena.take<int32_t>(groups);
  }
}

bool ActsSet::divisible(uint32_t mask, uint32_t columns) const {
  for (uint32_t i = 0; i < n; i++) {
    const bool whole = acts[i].prep == Prep::i16 || acts[i].prep == Prep::i8;
    if ((mask >> i & 1) && (whole || columns % acts[i].groupSize)) return false;
  }
  return true;
}

void prepareActs(const Ops& ops, ActsSet& set, uint32_t mask, const float* x, uint32_t cols, uint32_t m, Range columns) {
  for (uint32_t i = 0; i < set.n; i++) {
    if (!(mask >> i & 1)) continue;
    Acts& a = set.acts[i];
    const uint32_t end = columns.end < cols ? columns.end : roundUp(cols, a.groupSize);
    ops.prepare[static_cast<uint32_t>(a.prep)](x, cols, m, a, columns.begin / a.groupSize, end / a.groupSize);
  }
}

void applyLinear(const Ops& ops, const Linear& l, ActsSet& set, float* out, float* partial, uint32_t ld, Range tiles) {
  const uint32_t m = set.find(l.parts[0])->m;
  const size_t plane = static_cast<size_t>(m) * ld;
  for (uint32_t p = 0; p < l.nParts; p++) {
    const Part& part = l.parts[p];
    const MatMul reference = ops.matMul[part.layout];
    (reference ? reference : kernelFor(part)->run)(part, *set.find(part), l.nParts == 1 ? out : partial + p * plane, ld, tiles.begin, tiles.end);
  }
  const uint32_t begin = tiles.begin * TILE_ROWS, end = tiles.end * TILE_ROWS;
  for (uint32_t i = 0; i < m; i++) {
    float* y = out + i * ld;
    if (l.nParts == 2) {
      const float *p0 = partial + i * ld, *p1 = p0 + plane;
      for (uint32_t r = begin; r < end; r++) y[r] = p0[r] + p1[r];
    } else if (l.nParts == SEGMENTS) {
      const float *p0 = partial + i * ld, *p1 = p0 + plane, *p2 = p1 + plane, *p3 = p2 + plane;
      for (uint32_t r = begin; r < end; r++) y[r] = (p0[r] + p1[r]) + (p2[r] + p3[r]);
    }
    if (l.byColumns) continue;
    if (l.rowScale) for (uint32_t r = begin; r < end; r++) y[r] = y[r] * l.rowScale[r];
    if (l.bias) for (uint32_t r = begin; r < end; r++) y[r] = y[r] + l.bias[r];
  }
}

}  // namespace lutra

// The operations of a forward pass, each in two forms with the same signature and the same bits:
// reference/ is plain scalar code that defines the arithmetic, kernels/ is what runs.
#pragma once
#include "generated/layout.h"

namespace lutra {

// How activations are prepared for a matrix product. Done once per input vector, shared by all matrices that read it.
enum class Prep : uint32_t {
  f32,    // the values themselves
  i16,    // one scale for the whole vector, |q| bounded so that no int32 sum over int8 weights can overflow
  i8,     // BitNet: one scale for the whole vector, 127 / absmax; stored as exact lookup tables
  lut7,   // per group of columns: lookup tables rounded to 7 bits, so that two entries add within a byte
  lut8,   // per group of columns: lookup tables rounded to 8 bits
  exact,  // per group of columns: int8 values, stored as exact lookup tables
};

// Up to MAX_ROWS prepared input vectors. Strides: tables and scales are [group][row], so that a kernel that walks the
// groups finds all rows of a group side by side.
struct Acts {
  Prep prep;
  uint32_t groupSize;  // columns a group
  uint32_t m;          // rows in use
  uint32_t ld;         // f32, i16: columns between two rows
  uint8_t* table;      // lut7, lut8: [group][m][groupSize / 4][16]; exact, i8: [group][m][groupSize / 4][2][16];
                       // f32: [m][ld] floats; i16: [m][ld] int16
  float* scale;        // lut7, lut8, exact: [group][m], what an integer sum is multiplied by; i16, i8: [m]
  float* sum;          // lut7, lut8, exact: [group][m], the sum of the group's inputs
  int32_t* sumq;       // lut7, lut8, exact: [group][m], that sum in units of scale, as int16
};

// Prepares groups [begin, end) of input vector `m`. x: [cols], followed by zeros up to a multiple of 128 columns.
using Prepare = void (*)(const float* x, uint32_t cols, uint32_t m, Acts& a, uint32_t begin, uint32_t end);

// out[i * ld + row] = sum of the part over its columns, without the row scale, for input vectors i < a.m and the rows
// of tiles [begin, end). Rows of a last, partly filled tile are written too.
using MatMul = void (*)(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end);

// What runs the parts of one layout, number of planes and coding, and the preparation it reads.
struct Kernel {
  const char* name;
  Layout layout;
  uint32_t planes;
  Coding coding;
  Prep prep;
  MatMul run;
};
// The table's entry for a part; null if there is none.
const Kernel* kernelFor(const Part& part);

using Attend = void (*)(float* out, const float* q, uint32_t heads, const uint8_t* kv, uint32_t last, uint32_t headDim, float* scratch);

struct Ops {
  MatMul matMul[5];  // by Layout; null: the kernel of the table
  Prepare prepare[6];  // by Prep
  // h[i] = (x[i] / rms(x)) * w[i], rms(x) = sqrt(mean x^2 + eps). h may be x.                     x, h: [n]
  void (*rmsNorm)(float* h, const float* x, const float* w, uint32_t n, float eps);
  // Rotates dimension i with i + headDim/2 by the angle whose cosine and sine are rope[i], rope[i + headDim/2].
  void (*rope)(float* head, const float* rope, uint32_t headDim);
  // Softmax attention of the query heads that share a KV head (out, q: [heads][headDim]) over its positions 0..last.
  // By KvType. kv: blocks (kvBlockBytes); scratch: attendScratch(type, heads, positions, headDim) floats, positions > last a multiple of KV_BLOCK.
  Attend attend[2];
  // gate[i] = activation(gate[i]) * up[i]                                                        [n]
  void (*gatedUnit)(float* gate, const float* up, uint32_t n, Activation activation);
};

extern const Ops referenceOps, fastOps;

// The tables of four columns: exact sums of int8 take 10 bits each, in two halves.
constexpr bool isExact(Prep prep) { return prep == Prep::i8 || prep == Prep::exact; }
constexpr uint32_t tableBytes(Prep prep) { return isExact(prep) ? 32 : 16; }

// Tiles that a kernel walks side by side at most (kernels/sweep.h); with fewer it is slower.
constexpr uint32_t kMostStreams = 4;

constexpr uint32_t roundUp(uint32_t n, uint32_t to) { return (n + to - 1) / to * to; }
constexpr uint32_t tilesOf(uint32_t rows) { return roundUp(rows, TILE_ROWS) / TILE_ROWS; }
constexpr uint32_t bytesOf(Coding c) { return VALUE_BYTES[static_cast<uint32_t>(c)]; }
// Bytes of one group of a tile of bit planes: codes, then `values` coded values for each of the 16 rows.
constexpr uint32_t groupBytes(uint32_t planes, uint32_t groupSize, uint32_t values, Coding c) {
  return groupSize / 8 * planes * TILE_ROWS + TILE_ROWS * values * bytesOf(c);
}
// The same in layout 'uniform', whose parameters are a group's and, where the coding has blocks, those of 256 columns.
constexpr uint32_t uniformGroupBytes(uint32_t planes, uint32_t groupSize, Coding c) {
  return groupSize / 8 * planes * TILE_ROWS + GROUP_PARAM_BYTES[static_cast<uint32_t>(c)];
}
constexpr uint32_t blockBytes(Coding c) { return BLOCK_PARAM_BYTES[static_cast<uint32_t>(c)]; }

// KV cache of one layer and KV head: blocks of KV_BLOCK positions, laid out so that both the scores and the weighted sum
// run along the lanes.
//   f32   K as [headDim][KV_BLOCK], then V as [KV_BLOCK][headDim]
//   int8  what is multiplied in fours side by side: K as [headDim / 4][KV_BLOCK][4], V as [KV_BLOCK / 4][headDim][4], then
//         the scales of K and of V as [KV_BLOCK] floats each; codes: attend8.h
constexpr uint32_t kvBlockBytes(KvType type, uint32_t headDim) {
  const auto t = static_cast<uint32_t>(type);
  return 2 * KV_BLOCK * (headDim * KV_VALUE_BYTES[t] + KV_SCALE_BYTES[t]);
}

// Attention over int8 takes so many query heads at once, and so many positions, whose softmax weights share a scale.
constexpr uint32_t kAttendHeads = 8, kAttendChunk = 256;
// Floats that attention needs: scores; over int8, for each head, those of a chunk, weights and query as up to 16 bits, sums.
constexpr uint32_t attendScratch(KvType type, uint32_t heads, uint32_t positions, uint32_t headDim) {
  if (type == KvType::f32) return positions;
  return (heads < kAttendHeads ? heads : kAttendHeads) * (kAttendChunk + kAttendChunk / 2 + 2 * headDim);
}

}  // namespace lutra

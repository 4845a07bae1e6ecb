// A linear layer: y = bias + rowScale * (sum of parts), and the prepared activations its parts read.
#pragma once
#include "ops.h"
#include "parallel/tickets.h"

namespace lutra {

// Vectors in memory are padded with zeros to whole groups.
constexpr uint32_t kVectorPad = 128;
constexpr uint32_t padded(uint32_t n) { return roundUp(n, kVectorPad); }

// Hands out aligned pieces of one block of memory; with base 0 it only counts. In 64 bits, so that no size a file can
// ask for wraps around.
struct Arena {
  uint64_t at;
  template <class T> T* take(uint64_t n) {
    T* p = reinterpret_cast<T*>(static_cast<uintptr_t>(at));
    at = (at + n * sizeof(T) + ALIGN - 1) / ALIGN * ALIGN;
    return p;
  }
};

// The prepared forms of the current input that a model's kernels ask for: few, as matrices share groups and formats.
struct ActsSet {
  static constexpr uint32_t kMost = 12;
  Acts acts[kMost];
  uint32_t maxCols[kMost];
  uint32_t n;

  // Registers what a layer needs; false if there is no kernel for a part or the set is full.
  bool need(const Linear& l);
  void allocate(Arena& arena, uint32_t maxRows);
  Acts* find(const Part& part);
  // Says how many vectors are prepared next.
  void use(uint32_t m) { for (uint32_t i = 0; i < n; i++) acts[i].m = m; }
  // Bit i: acts[i] is read by this layer.
  uint32_t mask(const Linear& l);
  // Whether all of them can be prepared from `columns` columns at a time: no scale of the whole vector, whole groups.
  bool divisible(uint32_t mask, uint32_t columns) const;
};

struct Range {
  uint32_t begin, end;
};
// A worker's part of n things when each gets the same.
constexpr Range share(uint32_t n, uint32_t rank, uint32_t ranks) {
  return {n * rank / ranks, n * (rank + 1) / ranks};
}

// Who computes: rank of ranks, and with which operations. Where the work is large it is handed out in pieces: a worker
// that is held up by the rest of the machine takes fewer. Which worker computes a row changes nothing in its bits.
struct Worker {
  const Ops& ops;
  uint32_t rank, ranks;
  uint32_t* tickets;  // pieces given out so far in this step

  // Calls work(i) for pieces i < n, some here, the others elsewhere.
  template <class Work> void eachPiece(uint32_t n, Work work) const {
    if (ranks == 1) {
      for (uint32_t i = 0; i < n; i++) work(i);
    } else {
      for (uint32_t i = takeTicket(tickets); i < n; i = takeTicket(tickets)) work(i);
    }
  }
};

// A layer's tiles in pieces of whole units. A round has a piece for each worker and takes three quarters of what is left:
// long runs for the memory's sake first, short ones at the end, so that nobody waits long for the last.
struct Pieces {
  uint32_t tiles, unit, ranks;
  static Pieces of(uint32_t rows, uint32_t unit, uint32_t ranks) { return {tilesOf(rows), unit, ranks}; }

  uint32_t count() const {
    uint32_t n = 0;
    for (uint32_t end = 0; end < tiles; n++) end = (*this)[n].end;
    return n;
  }
  // i < count()
  Range operator[](uint32_t i) const {
    uint32_t begin = 0, size;  // in units
    for (;; i -= ranks, begin += ranks * size) {
      const uint32_t left = roundUp(tiles, unit) / unit - begin;
      size = ranks == 1 ? left : roundUp(3 * left, 4 * ranks) / (4 * ranks);
      if (i < ranks) break;
    }
    const uint32_t end = (begin + (i + 1) * size) * unit;
    return {(begin + i * size) * unit, end < tiles ? end : tiles};
  }
};

// Prepares the groups in `columns` of vector m (x: [padded(cols)]) for the layers in `mask`. Borders of `columns` are
// borders of groups; an end at or beyond `cols` includes the padding.
void prepareActs(const Ops& ops, ActsSet& set, uint32_t mask, const float* x, uint32_t cols, uint32_t m, Range columns);

// out[m * ld + row] for all prepared vectors and rows [tiles.begin * 16, tiles.end * 16). Of a layer held by columns: the
// sum of the segments that are here, half of them or one, without row scale and bias.
// partial: room for SEGMENTS * m * ld floats, used where a layer has several parts.
void applyLinear(const Ops& ops, const Linear& l, ActsSet& set, float* out, float* partial, uint32_t ld, Range tiles);

}  // namespace lutra

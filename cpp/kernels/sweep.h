// The order in which every matrix kernel walks its weights.
//
// A thread's tiles are cut into a few contiguous runs that are read side by side, one chunk of columns at a time: WASM
// has no prefetch instruction and hardware prefetchers stop at 4 KB pages, so several streams in flight are worth
// 1.3x on weights that come from memory. Four for bit planes and two for whole rows were best or near it where they were
// measured (docs/performance.md). Runs are kept from starting a multiple of 4 KB apart, where they would compete for the
// same lines of the first cache: worth another 1.5x.
// With several input vectors a chunk's weights are used for all of them before the next chunk, two vectors a pass.
//
// Sums stay in a small array of their own until a tile is finished: rows of `out` may lie a multiple of 4 KB apart too.
//
// Body: kStreams, kTogether (tiles a step takes at once when there is one vector), kSums (sums a row needs);
//       uint32_t chunks(); size_t chunkBytes();
//       template <int R, int T> void step(tiles, sums, chunk, m): adds the chunk's share of R tiles for vectors m .. m + T - 1
//       to sums[r][t], each kSums * 16 values; void finish(sums, out, m, tile): turns them into the 16 results.
#pragma once
#include "simd/v128.h"
#include "ops.h"

namespace lutra::kernels {

// The sums of a tile and a vector: S for each row.
template <uint32_t S> struct alignas(16) RowSums {
  float at[S * TILE_ROWS];
};

template <class Body>
LUTRA_INLINE void sweep(const Body& body, const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end) {
  const uint32_t chunks = body.chunks();
  const size_t chunkBytes = body.chunkBytes();
  RowSums<Body::kSums> sums[Body::kStreams][MAX_ROWS];
  while (begin < end) {
    const uint32_t streams = end - begin < Body::kStreams ? end - begin : Body::kStreams;
    uint32_t run = (end - begin) / streams;
    if (run > 2 && static_cast<size_t>(run) * w.tileBytes % 4096 == 0) run--;
    for (uint32_t tile = begin; tile < begin + run; tile++) {
      const uint8_t* at[Body::kStreams];
      for (uint32_t s = 0; s < streams; s++) {
        at[s] = w.data + static_cast<size_t>(tile + s * run) * w.tileBytes;
        for (uint32_t m = 0; m < a.m; m++) {
          for (uint32_t i = 0; i < Body::kSums * TILE_ROWS; i += 4) store(sums[s][m].at + i, splat(0));
        }
      }
      for (uint32_t c = 0; c < chunks; c++) {
        // R streams from s on, T vectors from m on.
        const auto step = [&]<int R, int T>(uint32_t s, uint32_t m) LUTRA_LAMBDA {
          const uint8_t* tiles[R];
          RowSums<Body::kSums>* y[R];
          for (int r = 0; r < R; r++) {
            tiles[r] = at[s + r] + c * chunkBytes;
            y[r] = sums[s + r] + m;
          }
          body.template step<R, T>(tiles, y, c, m);
        };
        uint32_t m = 0;
        for (; m + 2 <= a.m; m += 2) {
          for (uint32_t s = 0; s < streams; s++) step.template operator()<1, 2>(s, m);
        }
        for (; m < a.m; m++) {
          uint32_t s = 0;
          for (; s + Body::kTogether <= streams; s += Body::kTogether) step.template operator()<Body::kTogether, 1>(s, m);
          for (; s < streams; s++) step.template operator()<1, 1>(s, m);
        }
      }
      for (uint32_t s = 0; s < streams; s++) {
        for (uint32_t m = 0; m < a.m; m++) body.finish(sums[s][m].at, out + m * ld + (tile + s * run) * TILE_ROWS, m, tile + s * run);
      }
    }
    begin += run * streams;
  }
}

LUTRA_INLINE void copySums(const float* sums, float* out) {
  for (uint32_t i = 0; i < TILE_ROWS; i += 4) store(out + i, load(sums + i));
}

}  // namespace lutra::kernels

// The order in which every matrix kernel walks its weights.
//
// A thread's tiles are cut into up to `streams` contiguous runs that are read side by side, one chunk of columns at a
// time: WASM has no prefetch instruction and hardware prefetchers stop at 4 KB pages, so several streams in flight are
// worth 1.7x on weights that come from memory (one stream 44 GOPS, four 69, eight 74; docs/performance.md).
// With several input vectors a chunk's weights are used for all of them before the next chunk, two vectors a pass.
//
// Body: static uint32_t chunks(w); static size_t chunkBytes(w);
//       template <int T> void step(weights, chunk, m, out, ld): adds the chunk's share for vectors m .. m + T - 1
//       to out[t * ld + 0..15]; void finish(out, m): turns the finished 16 sums into the result.
#pragma once
#include "simd/v128.h"
#include "ops.h"

namespace lutra::kernels {

template <class Body>
LUTRA_INLINE void sweep(const Body& body, const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end) {
  const uint32_t chunks = body.chunks(), most = a.m == 1 ? 8 : 4;
  const size_t chunkBytes = body.chunkBytes();
  while (begin < end) {
    const uint32_t streams = end - begin < most ? end - begin : most, run = (end - begin) / streams;
    for (uint32_t tile = begin; tile < begin + run; tile++) {
      for (uint32_t s = 0; s < streams; s++) {
        for (uint32_t m = 0; m < a.m; m++) {
          float* y = out + m * ld + (tile + s * run) * TILE_ROWS;
          for (uint32_t i = 0; i < TILE_ROWS; i += 4) store(y + i, splat(0));
        }
      }
      for (uint32_t c = 0; c < chunks; c++) {
        uint32_t m = 0;
        for (; m + 2 <= a.m; m += 2) {
          for (uint32_t s = 0; s < streams; s++) {
            const uint32_t t = tile + s * run;
            body.template step<2>(w.data + static_cast<size_t>(t) * w.tileBytes + c * chunkBytes, c, m, out + m * ld + t * TILE_ROWS, ld);
          }
        }
        for (; m < a.m; m++) {
          for (uint32_t s = 0; s < streams; s++) {
            const uint32_t t = tile + s * run;
            body.template step<1>(w.data + static_cast<size_t>(t) * w.tileBytes + c * chunkBytes, c, m, out + m * ld + t * TILE_ROWS, ld);
          }
        }
      }
      for (uint32_t s = 0; s < streams; s++) {
        for (uint32_t m = 0; m < a.m; m++) body.finish(out + m * ld + (tile + s * run) * TILE_ROWS, m);
      }
    }
    begin += run * streams;
  }
}

}  // namespace lutra::kernels

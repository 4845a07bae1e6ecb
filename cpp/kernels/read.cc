// Reads memory and does nothing with it: the roof for decoding. As the matrix kernels do, in several streams.
#include "kernels/kernels.h"
#include "simd/v128.h"

namespace lutra::kernels {

// Reads n bytes (a multiple of 128 * streams) from p as `streams` runs side by side, 2 KB of each at a time.
// Returns the OR of all words, so that no load can be left out.
uint32_t readMemory(const uint8_t* p, uint32_t n, uint32_t streams) {
  constexpr uint32_t kChunk = 2048;
  const uint32_t run = n / streams;
  V a = splat(0), b = a, c = a, d = a;
  for (uint32_t at = 0; at < run; at += kChunk) {
    const uint32_t end = run - at < kChunk ? run - at : kChunk;
    for (uint32_t s = 0; s < streams; s++) {
      const uint8_t* q = p + s * run + at;
      for (uint32_t i = 0; i < end; i += 128) {
        a = wasm_v128_or(a, wasm_v128_or(load(q + i), load(q + i + 64)));
        b = wasm_v128_or(b, wasm_v128_or(load(q + i + 16), load(q + i + 80)));
        c = wasm_v128_or(c, wasm_v128_or(load(q + i + 32), load(q + i + 96)));
        d = wasm_v128_or(d, wasm_v128_or(load(q + i + 48), load(q + i + 112)));
      }
    }
  }
  const V all = wasm_v128_or(wasm_v128_or(a, b), wasm_v128_or(c, d));
  return wasm_i32x4_extract_lane(all, 0) | wasm_i32x4_extract_lane(all, 1) | wasm_i32x4_extract_lane(all, 2) | wasm_i32x4_extract_lane(all, 3);
}

}  // namespace lutra::kernels

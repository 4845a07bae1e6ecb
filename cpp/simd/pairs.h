// Products of bytes in pairs: one instruction with relaxed SIMD, which gives these bits as long as one side is 0 .. 127.
#pragma once
#include "simd/v128.h"

namespace lutra {

// Four codes, as often as a vector has room for them, and 16 bytes to multiply with them: pairs(b, f) is b0 f0 + b1 f1,
// b2 f2 + b3 f3, … modulo 2^16. One side is signed, the other 0 .. 127.
#ifdef LUTRA_RELAXED
constexpr uint32_t kFourBytes = 4;
struct Four { V all; };
struct Bytes { V all; };
LUTRA_INLINE Four fourAt(const uint8_t* p) { return {wasm_v128_load32_splat(p)}; }
LUTRA_INLINE Bytes unsignedAt(const uint8_t* p) { return {load(p)}; }
LUTRA_INLINE Bytes signedAt(const uint8_t* p) { return {load(p)}; }
LUTRA_INLINE V pairsUnsigned(Bytes b, Four f) { return wasm_i16x8_relaxed_dot_i8x16_i7x16(f.all, b.all); }
LUTRA_INLINE V pairsSigned(Bytes b, Four f) { return wasm_i16x8_relaxed_dot_i8x16_i7x16(b.all, f.all); }
LUTRA_INLINE void putFour(uint8_t* four, V codes) {
  const V words = wasm_i16x8_narrow_i32x4(codes, codes);
  wasm_v128_store32_lane(four, wasm_i8x16_narrow_i16x8(words, words), 0);
}
// 16 codes 0 .. 127
LUTRA_INLINE void putCodes(uint8_t* fours, const V* v) {
  store(fours, wasm_u8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(v[0], v[1]), wasm_i16x8_narrow_i32x4(v[2], v[3])));
}
#else
constexpr uint32_t kFourBytes = 8;
struct Four { V even, odd; };
struct Bytes { V even, odd; };
LUTRA_INLINE Four fourAt(const uint8_t* p) { return {wasm_v128_load32_splat(p), wasm_v128_load32_splat(p + 4)}; }
LUTRA_INLINE Bytes unsignedAt(const uint8_t* p) {
  const V v = load(p), odd = wasm_u16x8_shr(v, 8);
  return {wasm_v128_xor(v, wasm_i16x8_shl(odd, 8)), odd};
}
LUTRA_INLINE Bytes signedAt(const uint8_t* p) {
  const V v = load(p);
  return {wasm_i16x8_shr(wasm_i16x8_shl(v, 8), 8), wasm_i16x8_shr(v, 8)};
}
LUTRA_INLINE V pairsUnsigned(Bytes b, Four f) { return wasm_i16x8_add(wasm_i16x8_mul(b.even, f.even), wasm_i16x8_mul(b.odd, f.odd)); }
LUTRA_INLINE V pairsSigned(Bytes b, Four f) { return pairsUnsigned(b, f); }
LUTRA_INLINE void putFour(uint8_t* four, V codes) {
  const V words = wasm_i16x8_narrow_i32x4(codes, codes);
  wasm_v128_store64_lane(four, wasm_i16x8_shuffle(words, words, 0, 2, 1, 3, 4, 6, 5, 7), 0);
}
LUTRA_INLINE void putCodes(uint8_t* fours, const V* v) {
  for (int i = 0; i < 4; i += 2) {
    const V both = wasm_i16x8_narrow_i32x4(v[i], v[i + 1]);
    store(fours + 8 * i, wasm_i16x8_shuffle(both, both, 0, 2, 1, 3, 4, 6, 5, 7));
  }
}
#endif

}  // namespace lutra

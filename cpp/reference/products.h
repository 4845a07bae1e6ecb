// What the reference's products share: the way through a tile, codes and parameters, sums of table entries.
#pragma once
#include "half.h"
#include "ops.h"

namespace lutra::reference {

// Calls dot(tile, row in tile, input vector) for every output asked for.
template <class Dot>
void eachOutput(const Part& w, const Acts& a, float* out, uint32_t ld, uint32_t begin, uint32_t end, Dot dot) {
  for (uint32_t tile = begin; tile < end; tile++) {
    for (uint32_t m = 0; m < a.m; m++) {
      for (uint32_t r = 0; r < TILE_ROWS; r++) {
        out[m * ld + tile * TILE_ROWS + r] = dot(w.data + static_cast<size_t>(tile) * w.tileBytes, r, m);
      }
    }
  }
}

// Where a group's byte of row r lies among the 16 of a plane: the inverse of ROW(b) = (b >> 1) + 8 (b & 1).
inline uint32_t byteOfRow(uint32_t r) { return r < 8 ? 2 * r : 2 * (r - 8) + 1; }

// Value v of row r in the parameters of a group.
inline float parameter(const uint8_t* p, Coding coding, uint32_t v, uint32_t r) {
  const uint32_t i = v * TILE_ROWS + r;
  if (coding == Coding::f32) return reinterpret_cast<const float*>(p)[i];
  return halfToFloat(reinterpret_cast<const uint16_t*>(p)[i]);
}

// Bit of plane `plane`, column k of a group, row r.
inline uint32_t bitOf(const uint8_t* codes, uint32_t planes, uint32_t plane, uint32_t r, uint32_t k) {
  return codes[(k / 8 * planes + plane) * TILE_ROWS + byteOfRow(r)] >> k % 8 & 1;
}

// The small integers of row r among a group's parameters: 6 bits (the rest of the second is in eight bytes of halves), 4 or 8.
struct Small {
  int32_t scale, offset;
};
inline Small smallOf(const uint8_t* p, Coding coding, uint32_t r) {
  if (coding == Coding::k8) return {static_cast<int8_t>(p[r]), 0};
  if (coding == Coding::k4) return {p[r] & 15, p[r] >> 4};
  const int32_t six = p[r] >> 6 << 4 | (p[TILE_ROWS + r % 8] >> (r < 8 ? 0 : 4) & 15);
  return {p[r] & 63, coding == Coding::i6 ? six - 32 : six};
}

inline float half(const uint8_t* p, uint32_t i) { return halfToFloat(reinterpret_cast<const uint16_t*>(p)[i]); }

// Sum over a group of the table entries that the bits of one plane select. Rounded tables (prepare.cc) are summed by
// averages, which are rounded up:
//   lut7  of the sums of two octets
//   lut8  in layout 'planes': of the two entries of an octet, taken twice, less 1/2, by which they are too large at the
//         mean. In the highest plane, and in layout 'uniform', both entries by themselves
inline int32_t lookUp(const Part& w, const uint8_t* codes, uint32_t plane, uint32_t r, const Acts& a, uint32_t g, uint32_t m) {
  const uint32_t planes = w.planes;
  const auto entry = [&](uint32_t quad) -> int32_t {
    const uint32_t e = codes[(quad / 2 * planes + plane) * TILE_ROWS + byteOfRow(r)] >> quad % 2 * 4 & 15;
    const uint8_t* table = a.table + ((g * a.m + m) * (a.groupSize / 4) + quad) * tableBytes(a.prep);
    return isExact(a.prep) ? (table[e] | table[16 + e] << 7) - 512 : table[e];
  };
  const auto octet = [&](uint32_t quad) { return (entry(quad) + entry(quad + 1)) & 255; };  // an entry alone may leave the byte
  const auto average = [](int32_t x, int32_t y) { return (x + y + 1) / 2 - 128; };
  const uint32_t quads = a.groupSize / 4;
  int32_t sum = 0;
  if (a.prep == Prep::lut7) {
    for (uint32_t q = 0; q < quads; q += 4) sum += average(octet(q), octet(q + 2));
    return sum;
  }
  const bool averaged = a.prep == Prep::lut8 && w.layout == static_cast<uint32_t>(Layout::planes) && plane + 1 < planes;
  for (uint32_t q = 0; q < quads; q += 2) {
    if (averaged) sum += 2 * average(entry(q), entry(q + 1));
    else sum += entry(q) + entry(q + 1) - (isExact(a.prep) ? 0 : 256);
  }
  return averaged ? sum - static_cast<int32_t>(quads / 4) : sum;
}

}  // namespace lutra::reference

/**
 * Layout 'uniform': P code planes, one scale and one offset for each row and group (docs/format.md).
 * Sources, 16 rows: codes u8[16][stride], whole groups; parameters either
 *
 *   pairs   f32[16][groups][2] = s, z                                              codings f32, f16, f16mid
 *   small   for every `perBlock` groups of a row SMALL_BYTES:                      codings i6, k4, k6, k8
 *           d, dmin u16 (halves; not for i6), scales u8[16], offsets i8[16]
 *
 * Columns [begin, end), borders of groups or blocks, go to `dst`; each function returns where they end.
 */
import { BLOCK_COLUMNS, BLOCK_PARAM_BYTES, Coding_f16, Coding_f16mid, Coding_f32, Coding_i6, Coding_k4, Coding_k8, GROUP_PARAM_BYTES, TILE_ROWS } from './generated/layout';
import { f16FromF32, f16ToF32 } from './float16';
import { bitAt, placeOf } from './octet';

export const SMALL_BYTES: usize = 36;
const SCALES: usize = 4, OFFSETS: usize = 20;

/** The planes of a group's codes: the sign bits of 16 codes at once, from the highest plane down. */
function storeCodes(codes: usize, stride: i32, groupSize: i32, planes: i32, dst: usize): usize {
  const octet = <usize>planes << 4;
  for (let o = 0; o < groupSize; o += 16, dst += 2 * octet) {
    let from = codes + <usize>o;
    for (let r = 0; r < TILE_ROWS; r++, from += stride) {
      let q = i8x16.shl(v128.load(from), 8 - planes);
      const first = dst + placeOf(r);
      for (let at = first + octet - 16; ; at -= 16) {
        const bits = i8x16.bitmask(q);
        store<u8>(at, <u8>bits);
        store<u8>(at + octet, <u8>(bits >> 8));
        if (at == first) break;
        q = i8x16.add(q, q);
      }
    }
  }
  return dst;
}

export function uniformFromPairs(codes: usize, stride: i32, pairs: usize, groups: i32, begin: i32, end: i32, planes: i32, groupSize: i32, coding: i32, dst: usize): usize {
  for (let k = begin; k < end; k += groupSize) {
    dst = storeCodes(codes + <usize>k, stride, groupSize, planes, dst);
    for (let v: usize = 0, n: usize = coding == Coding_f16mid ? 1 : 2; v < n; v++) {
      for (let r = 0; r < TILE_ROWS; r++) {
        const value = load<f32>(pairs + (<usize>(r * groups + k / groupSize) << 3) + (v << 2));
        if (coding == Coding_f32) {
          store<f32>(dst, value);
          dst += 4;
        } else {
          store<u16>(dst, <u16>f16FromF32(value));
          dst += 2;
        }
      }
    }
  }
  return dst;
}

export function uniformFromSmall(codes: usize, stride: i32, small: usize, rowBytes: i32, perBlock: i32, begin: i32, end: i32, planes: i32, groupSize: i32, coding: i32, dst: usize): usize {
  const blockBytes = load<i32>(BLOCK_PARAM_BYTES + (<usize>coding << 2));
  for (let k = begin; k < end; k += groupSize) {
    dst = storeCodes(codes + <usize>k, stride, groupSize, planes, dst);
    const g = k / groupSize, block = small + <usize>(g / perBlock) * SMALL_BYTES, at = block + <usize>(g % perBlock);
    let from = at;
    if (coding == Coding_k8) {
      for (let r = 0; r < TILE_ROWS; r++, from += rowBytes) store<u8>(dst + r, load<u8>(from, SCALES));
    } else if (coding == Coding_k4) {
      for (let r = 0; r < TILE_ROWS; r++, from += rowBytes) store<u8>(dst + r, load<u8>(from, SCALES) | (load<u8>(from, OFFSETS) << 4));
    } else {
      const centre: u8 = coding == Coding_i6 ? 32 : 0;
      for (let r = 0; r < TILE_ROWS; r++, from += rowBytes) storeSix(dst, r, load<u8>(from, SCALES), load<u8>(from, OFFSETS) + centre);
    }
    dst += load<i32>(GROUP_PARAM_BYTES + (<usize>coding << 2));
    if (blockBytes == 0 || (k + groupSize) % BLOCK_COLUMNS != 0) continue;
    for (let v: usize = 0; v < <usize>blockBytes >> 5; v++) {
      for (let r = 0; r < TILE_ROWS; r++, dst += 2) store<u16>(dst, load<u16>(block + <usize>(r * rowBytes) + 2 * v));
    }
  }
  return dst;
}

/** Two values of 6 bits of row r in 24 bytes: the first and the upper bits of the second in a byte, its lower half in eight bytes. */
// @ts-ignore: decorator
@inline
function storeSix(dst: usize, r: i32, first: u8, second: u8): void {
  store<u8>(dst + r, (first & 63) | ((second >> 4) << 6));
  const at = dst + 16 + (r & 7), low = second & 15;
  store<u8>(at, r < 8 ? low : load<u8>(at) | (low << 4));
}

/** Whether none of the halves is NaN or infinite; their products with small integers are finite then. */
export function smallFinite(small: usize, blocks: i32): bool {
  for (const end = small + <usize>blocks * SMALL_BYTES; small < end; small += SMALL_BYTES) {
    const halves = load<u32>(small);
    if ((halves & 0x7c00) == 0x7c00 || (halves & 0x7c000000) == 0x7c000000) return false;
  }
  return true;
}

/**
 * Small integers and halves of one row -> pairs f32[groups][2], exact products. `middle`: 0 where the offset is a minimum,
 * otherwise the code whose weight is zero.
 */
export function pairsFromSmall(small: usize, groups: i32, perBlock: i32, middle: i32, pairs: usize): void {
  for (let g = 0; g < groups; g++, pairs += 8) {
    const block = small + <usize>(g / perBlock) * SMALL_BYTES, at = block + <usize>(g % perBlock);
    const d = f16ToF32(load<u16>(block));
    if (middle) {
      const s = d * <f32>load<i8>(at + SCALES);
      store<f32>(pairs, s);
      store<f32>(pairs, -(<f32>middle * s), 4);
    } else {
      store<f32>(pairs, d * <f32>load<u8>(at + SCALES));
      store<f32>(pairs, -(f16ToF32(load<u16>(block, 2)) * <f32>load<u8>(at + OFFSETS)), 4);
    }
  }
}

/**
 * Packed bytes of a part -> tile: s (q - middle) + z, the products exact, so that each weight is rounded once.
 * rowScale of i6: halves, 16 scales and 16 centres' scales.
 */
export function tileFromUniform(src: usize, cols: i32, planes: i32, groupSize: i32, coding: i32, rowScale: usize, tile: usize): void {
  const groupBytes = (groupSize >> 3) * planes * TILE_ROWS + load<i32>(GROUP_PARAM_BYTES + (<usize>coding << 2));
  const blockBytes = load<i32>(BLOCK_PARAM_BYTES + (<usize>coding << 2));
  for (let begin = 0; begin < cols; begin += groupSize) {
    const params = src + <usize>(groupSize >> 3) * planes * TILE_ROWS;
    // Where the halves of the group's block are.
    const halves = blockBytes ? src + <usize>(groupBytes * ((BLOCK_COLUMNS - begin % BLOCK_COLUMNS) / groupSize)) : rowScale;
    for (let r = 0; r < TILE_ROWS; r++) {
      let s: f32, z: f32 = 0, middle: f32 = 0;
      const byte = load<u8>(params + r), d = f16ToF32(load<u16>(halves + (r << 1)));
      if (coding == Coding_f32) {
        s = load<f32>(params + (r << 2));
        z = load<f32>(params + (r << 2), 64);
      } else if (coding == Coding_f16 || coding == Coding_f16mid) {
        s = f16ToF32(load<u16>(params + (r << 1)));
        if (coding == Coding_f16) z = f16ToF32(load<u16>(params + (r << 1), 32));
        else middle = <f32>(1 << (planes - 1));
      } else if (coding == Coding_k8) {
        s = d * <f32>(<i8>byte);
        middle = <f32>(1 << (planes - 1));
      } else {
        const second = coding == Coding_k4 ? byte >> 4 : ((byte >> 6) << 4) | ((load<u8>(params + 16 + (r & 7)) >> (r < 8 ? 0 : 4)) & 15);
        s = d * <f32>(byte & (coding == Coding_k4 ? 15 : 63));
        const e = f16ToF32(load<u16>(halves + (r << 1), 32));
        if (coding == Coding_i6) {
          z = e * <f32>(<i32>second - 32);
          middle = <f32>((1 << planes) - 1) * <f32>0.5;
        } else {
          z = -(e * <f32>second);
        }
      }
      for (let i = 0, n = min(groupSize, cols - begin); i < n; i++) {
        const octet = src + <usize>((i >> 3) * planes * TILE_ROWS);
        let q = 0;
        for (let p = 0; p < planes; p++) q |= bitAt(octet + (<usize>p << 4), r, i & 7) << p;
        store<f32>(tile + (<usize>((begin + i) * TILE_ROWS + r) << 2), s * (<f32>q - middle) + z);
      }
    }
    src += groupBytes;
    if (blockBytes && (begin + groupSize) % BLOCK_COLUMNS == 0) src += blockBytes;
  }
}

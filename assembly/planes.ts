/**
 * Layout 'planes': parameters as they are stored, codes chosen for them, and back.
 *
 * The level of a code, as packer and unpacker compute it in f32:
 *   f16, f32   z + s_0 bit_0 + s_1 bit_1 + …                  from the left
 *   i16        (rowScale / 2) * (2 z' ± s_0 ± s_1 …)          + where the bit is set; the bracket is an exact integer
 */
import { Coding_f16, Coding_f32, Coding_i16, I16_MAX, TILE_ROWS } from './generated/layout';
import { f16FromF32, f16x4ToF32 } from './float16';
import { bitAt, byteOrder, bytesOf } from './octet';

// @ts-ignore: decorator
@inline
function widthOf(coding: i32): usize { return coding == Coding_f32 ? 4 : 2; }

/** z' = z + (s_0 + s_1 + …) / 2 of four rows: the middle of the levels. */
// @ts-ignore: decorator
@inline
function middle(params: usize, planes: i32): v128 {
  let sum = v128.load(params);
  for (let p = 1; p < planes; p++) sum = f32x4.add(sum, v128.load(params + (<usize>p << 6)));
  return f32x4.add(v128.load(params + (<usize>planes << 6)), f32x4.mul(f32x4.splat(0.5), sum));
}

/** rowScale[16] of coding i16: max over groups of |s_p|, |z'|, divided by I16_MAX. */
export function planesRowScale(params: usize, groups: i32, planes: i32, rowScale: usize): void {
  for (let quad: usize = 0; quad < 64; quad += 16) {
    let largest = f32x4.splat(0);
    let at = params + quad;
    for (let g = 0; g < groups; g++) {
      largest = f32x4.max(largest, f32x4.abs(middle(at, planes)));
      for (let p = 0; p < planes; p++, at += 64) largest = f32x4.max(largest, f32x4.abs(v128.load(at)));
      at += 64;
    }
    v128.store(rowScale + quad, f32x4.div(largest, f32x4.splat(<f32>I16_MAX)));
  }
}

/** round(value / scale), ties to even; the clamp only matters where the scale is subnormal. */
// @ts-ignore: decorator
@inline
function toI16(value: v128, scale: v128): v128 {
  const ratio = v128.and(f32x4.div(value, scale), f32x4.ne(scale, f32x4.splat(0)));
  const limit = f32x4.splat(<f32>I16_MAX);
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.max(f32x4.min(ratio, limit), f32x4.neg(limit))));
}

/** Parameters of a group -> their stored form: [planes + 1][16] values of the coding. */
function storeParams(params: usize, planes: i32, coding: i32, rowScale: usize, dst: usize): void {
  if (coding == Coding_f32) {
    memory.copy(dst, params, <usize>(planes + 1) << 6);
  } else if (coding == Coding_f16) {
    for (let i = 0, n = (planes + 1) * TILE_ROWS; i < n; i++) {
      store<u16>(dst + (<usize>i << 1), <u16>f16FromF32(load<f32>(params + (<usize>i << 2))));
    }
  } else {
    for (let quad: usize = 0; quad < 64; quad += 16) {
      const scale = v128.load(rowScale + quad);
      for (let p = 0; p <= planes; p++) {
        const value = p < planes ? v128.load(params + quad + (<usize>p << 6)) : middle(params + quad, planes);
        const q = toI16(value, scale);
        v128.store64_lane(dst + (<usize>p << 5) + (quad >> 1), i16x8.narrow_i32x4_s(q, q), 0);
      }
    }
  }
}

/** Four stored values of parameter p as f32 (integers for i16). */
// @ts-ignore: decorator
@inline
function loadParams(stored: usize, p: i32, quad: usize, coding: i32): v128 {
  if (coding == Coding_f32) return v128.load(stored + (<usize>p << 6) + quad);
  const at = stored + (<usize>p << 5) + (quad >> 1);
  return coding == Coding_f16 ? f16x4ToF32(v128.load_ext<u16>(at)) : f32x4.convert_i32x4_s(v128.load_ext<i16>(at));
}

/** Four rows' levels, f32[2^planes] at a stride of 64 bytes; plane 0 is the HIGHEST bit of the index. */
function makeLevels(stored: usize, planes: i32, quad: usize, coding: i32, rowScale: usize, levels: usize): void {
  const end = levels + (<usize>64 << planes);
  const centred = coding == Coding_i16;
  const last = loadParams(stored, planes, quad, coding);
  v128.store(levels, centred ? f32x4.add(last, last) : last);
  for (let p = 0, gap: usize = end - levels; p < planes; p++, gap >>= 1) {
    const s = loadParams(stored, p, quad, coding);
    for (let at = levels; at < end; at += gap) {
      const without = v128.load(at);
      v128.store(at + (gap >> 1), f32x4.add(without, s));
      if (centred) v128.store(at, f32x4.sub(without, s));
    }
  }
  if (!centred) return;
  const scale = f32x4.mul(f32x4.splat(0.5), v128.load(rowScale + quad));
  for (let at = levels; at < end; at += 64) v128.store(at, f32x4.mul(scale, v128.load(at)));
}

/** The nearest level of four weights; ties go to the smaller index. */
// @ts-ignore: decorator
@inline
function nearestOf(w: v128, levels: usize, end: usize): v128 {
  const one = i32x4.splat(1);
  let code = i32x4.splat(0), candidate = one;
  let nearest = f32x4.abs(f32x4.sub(w, v128.load(levels)));
  for (let at = levels + 64; at < end; at += 64) {
    const distance = f32x4.abs(f32x4.sub(w, v128.load(at)));
    code = v128.bitselect(candidate, code, f32x4.lt(distance, nearest));
    nearest = f32x4.pmin(nearest, distance);
    candidate = i32x4.add(candidate, one);
  }
  return code;
}

/**
 * A part of a tile -> its packed bytes. params: of the part's groups, as hlqFit leaves them. rowScale: f32[16] (read by
 * i16 only). Each code is the level nearest to the weight with the parameters as stored. scratch: 4 KiB.
 */
export function planesFromTile(tile: usize, cols: i32, planes: i32, groupSize: i32, coding: i32, params: usize,
  rowScale: usize, dst: usize, scratch: usize): void {
  const levels = scratch, levelsEnd = levels + (<usize>64 << planes);
  const sets = scratch + 1024; // a vector for each plane
  const codeBytes = <usize>(groupSize >> 3) * planes << 4;
  const paramBytes = <usize>(TILE_ROWS * (planes + 1)) * widthOf(coding);
  for (let begin = 0; begin < cols; begin += groupSize) {
    const stored = dst + codeBytes;
    storeParams(params, planes, coding, rowScale, stored);
    for (let quad: usize = 0; quad < 64; quad += 16) makeLevels(stored, planes, quad, coding, rowScale, levels + quad);
    for (let o = 0; o < groupSize; o += 8) {
      memory.fill(sets, 0, <usize>planes << 4);
      for (let i = 0, n = min(8, cols - begin - o); i < n; i++) {
        const w = tile + (<usize>(begin + o + i) << 6);
        const codes = bytesOf(
          nearestOf(v128.load(w), levels, levelsEnd), nearestOf(v128.load(w, 16), levels + 16, levelsEnd),
          nearestOf(v128.load(w, 32), levels + 32, levelsEnd), nearestOf(v128.load(w, 48), levels + 48, levelsEnd));
        for (let p = 0; p < planes; p++) {
          const set = sets + (<usize>p << 4);
          const bits = v128.and(i8x16.shr_u(codes, planes - 1 - p), i8x16.splat(1));
          v128.store(set, v128.or(v128.load(set), i8x16.shl(bits, i)));
        }
      }
      for (let p = 0; p < planes; p++, dst += 16) v128.store(dst, byteOrder(v128.load(sets + (<usize>p << 4))));
    }
    dst += paramBytes;
    params += <usize>((planes + 1) * TILE_ROWS) << 2;
  }
}

/** Packed bytes of a part -> tile. scratch: 4 KiB. */
export function tileFromPlanes(src: usize, cols: i32, planes: i32, groupSize: i32, coding: i32, rowScale: usize,
  tile: usize, scratch: usize): void {
  const codeBytes = <usize>(groupSize >> 3) * planes << 4;
  const groupBytes = codeBytes + <usize>(TILE_ROWS * (planes + 1)) * widthOf(coding);
  for (let begin = 0; begin < cols; begin += groupSize, src += groupBytes) {
    for (let quad: usize = 0; quad < 64; quad += 16) makeLevels(src + codeBytes, planes, quad, coding, rowScale, scratch + quad);
    for (let i = 0, n = min(groupSize, cols - begin); i < n; i++) {
      const octet = src + (<usize>((i >> 3) * planes) << 4);
      for (let r = 0; r < TILE_ROWS; r++) {
        let code = 0;
        for (let p = 0; p < planes; p++) code = code << 1 | bitAt(octet + (<usize>p << 4), r, i & 7);
        store<f32>(tile + (<usize>((begin + i) * TILE_ROWS + r) << 2), load<f32>(scratch + (<usize>(code * TILE_ROWS + r) << 2)));
      }
    }
  }
}

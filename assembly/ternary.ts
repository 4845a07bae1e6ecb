/** Layout 'ternary': plane 0 holds w = +1, plane 1 w = -1. */
import { Coding_f32, Coding_none, TILE_ROWS } from './generated/layout';
import { bitAt, byteOrder, bytesOf } from './octet';
import { f16ToF32 } from './float16';

/** +1 / -1 as 1 / 2 (bit 0 / bit 1), else 0: clamp(round(w / gamma), -1, 1), ties to even. */
// @ts-ignore: decorator
@inline
function codeOf(w: v128, gamma: v128): v128 {
  const t = f32x4.nearest(f32x4.div(w, gamma));
  return v128.or(
    v128.and(f32x4.ge(t, f32x4.splat(1)), i32x4.splat(1)),
    v128.and(f32x4.le(t, f32x4.splat(-1)), i32x4.splat(2)));
}

/** `gamma` > 0: the matrix's mean |w|, or 1 for trits. The last group is padded with zero weights. */
export function ternaryFromTile(tile: usize, cols: i32, groupSize: i32, gamma: f32, dst: usize): void {
  const gamma4 = f32x4.splat(gamma);
  const padded = (cols + groupSize - 1) / groupSize * groupSize;
  for (let k = 0; k < padded; k += 8, dst += 32) {
    let plus = i8x16.splat(0), minus = i8x16.splat(0);
    for (let i = 0, n = min(8, cols - k); i < n; i++) {
      const at = tile + (<usize>(k + i) << 6);
      const codes = bytesOf(codeOf(v128.load(at), gamma4), codeOf(v128.load(at, 16), gamma4),
        codeOf(v128.load(at, 32), gamma4), codeOf(v128.load(at, 48), gamma4));
      plus = v128.or(plus, i8x16.shl(v128.and(codes, i8x16.splat(1)), i));
      minus = v128.or(minus, i8x16.shl(i8x16.shr_u(codes, 1), i));
    }
    v128.store(dst, byteOrder(plus));
    v128.store(dst, byteOrder(minus), 16);
  }
}

export function tileFromTernary(src: usize, cols: i32, groupSize: i32, coding: i32, rowScale: usize, tile: usize): void {
  const codeBytes = <usize>(groupSize << 2);
  const width: usize = coding == Coding_none ? 0 : coding == Coding_f32 ? 4 : 2;
  for (let begin = 0; begin < cols; begin += groupSize, src += codeBytes + width * TILE_ROWS) {
    for (let r = 0; r < TILE_ROWS; r++) {
      let scale = load<f32>(rowScale + (<usize>r << 2));
      const at = src + codeBytes + width * r;
      if (width == 4) scale *= load<f32>(at);
      else if (width == 2) scale *= f16ToF32(load<u16>(at));
      for (let i = 0, n = min(groupSize, cols - begin); i < n; i++) {
        const octet = src + <usize>((i >> 3) << 5);
        const trit = bitAt(octet, r, i & 7) - bitAt(octet + 16, r, i & 7);
        store<f32>(tile + (<usize>((begin + i) * TILE_ROWS + r) << 2), <f32>trit * scale);
      }
    }
  }
}

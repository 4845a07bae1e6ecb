/**
 * ELUTQ's matrices: HLQ with a bit plane and a half-precision scale for each bit, and a half-precision zero. A row's bytes:
 *
 *   codes   [planes][cols / 8], bit j of byte c is that of column 8 c + j
 *   scales  u16[planes + 1][cols / groupSize]: the planes' scales, then the zeros
 *
 * Tiles of layout 'planes', coding 'f16', hold the same bits and halves in another order.
 */
import { TILE_ROWS } from './generated/layout';
import { f16FromF32, f16ToF32 } from './float16';
import { placeOf } from './octet';

/** To f32; see rows.ts for the signature. param: planes + 16 * groupSize. */
export function rowFromElutq(src: usize, scales: usize, dst: usize, cols: i32, phase: i32, param: i32): void {
  const planes = param & 15, groupSize = param >> 4, groups = cols / groupSize;
  for (let k = 0; k < cols; k++, dst += 4) {
    const at = scales + (<usize>(k / groupSize) << 1);
    let w = f16ToF32(load<u16>(at + (<usize>(planes * groups) << 1)));
    for (let p = 0; p < planes; p++) {
      const bit = (load<u8>(src + <usize>(p * (cols >> 3) + (k >> 3))) >> <u8>(k & 7)) & 1;
      if (bit) w += f16ToF32(load<u16>(at + (<usize>(p * groups) << 1)));
    }
    store<f32>(dst, w);
  }
}

/** 16 rows, columns [begin, end) -> the tile of a part. */
export function planesFromElutq(codes: usize, scales: usize, cols: i32, begin: i32, end: i32, planes: i32, groupSize: i32, dst: usize): void {
  const rowCodes = planes * (cols >> 3), groups = cols / groupSize, rowScales = <usize>((planes + 1) * groups) << 1;
  for (let k = begin; k < end; k += groupSize) {
    for (let c = k >> 3; c < (k + groupSize) >> 3; c++) {
      for (let p = 0; p < planes; p++, dst += 16) {
        for (let r = 0; r < TILE_ROWS; r++) store<u8>(dst + placeOf(r), load<u8>(codes + <usize>(r * rowCodes + p * (cols >> 3) + c)));
      }
    }
    for (let p = 0; p <= planes; p++) {
      for (let r = 0; r < TILE_ROWS; r++, dst += 2) store<u16>(dst, load<u16>(scales + <usize>r * rowScales + (<usize>(p * groups + k / groupSize) << 1)));
    }
  }
}

/** The way back: a tile of a part to its columns of 16 rows. */
export function elutqFromPlanes(src: usize, cols: i32, begin: i32, end: i32, planes: i32, groupSize: i32, codes: usize, scales: usize): void {
  const rowCodes = planes * (cols >> 3), groups = cols / groupSize, rowScales = <usize>((planes + 1) * groups) << 1;
  for (let k = begin; k < end; k += groupSize) {
    for (let c = k >> 3; c < (k + groupSize) >> 3; c++) {
      for (let p = 0; p < planes; p++, src += 16) {
        for (let r = 0; r < TILE_ROWS; r++) store<u8>(codes + <usize>(r * rowCodes + p * (cols >> 3) + c), load<u8>(src + placeOf(r)));
      }
    }
    for (let p = 0; p <= planes; p++) {
      for (let r = 0; r < TILE_ROWS; r++, src += 2) store<u16>(scales + <usize>r * rowScales + (<usize>(p * groups + k / groupSize) << 1), load<u16>(src));
    }
  }
}

/** Whether none of `count` halves is NaN or infinite. */
export function halvesFinite(halves: usize, count: i32): bool {
  for (const end = halves + (<usize>count << 1); halves < end; halves += 2) if ((load<u16>(halves) & 0x7c00) == 0x7c00) return false;
  return true;
}

/** The nearest halves; returns how many values they do not hold exactly. */
export function halvesFromF32(values: usize, count: i32, dst: usize): i32 {
  let changed = 0;
  for (const end = values + (<usize>count << 2); values < end; values += 4, dst += 2) {
    const value = load<f32>(values), half = f16FromF32(value);
    if (f16ToF32(half) != value) changed++;
    store<u16>(dst, <u16>half);
  }
  return changed;
}

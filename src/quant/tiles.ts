/** Rounded matrices as tiles of the packed file. */
import { partBorders, type LinearShape, type PartFormat } from '../formats/packed.js';
import { TILE_ROWS } from '../generated/layout.js';
import type { Packers, Tiles } from '../pack/packers.js';
import { paramsOf, type Format, type Rounded } from './rounding.js';

export const partFormat = ({ levels, planes, groupSize, sixBit }: Format): PartFormat => ({ layout: levels, planes, groupSize, coding: sixBit ? 'i6' : 'i16' });

/** @param values [rows][cols], what the codes mean */
export function tilesOf(packers: Packers, { rows, cols, segmented }: LinearShape, format: Format, rounded: Rounded, values: Float32Array): Tiles {
  const borders = partBorders(cols, partFormat(format), segmented);
  return format.levels === 'uniform' ? uniformTiles(packers, rows, cols, borders, format, rounded) : planeTiles(packers, rows, cols, borders, format, rounded, values);
}

/** Middle and step of a group are whole multiples of the row's two scales. */
function uniformTiles(packers: Packers, rows: number, cols: number, borders: number[], format: Format, { codes, params, rowScales }: Rounded): Tiles {
  const groups = Math.ceil(cols / format.groupSize);
  const scales = new Uint8Array(rows * groups), centres = new Int8Array(rows * groups), halves = new Uint16Array(2 * rows);
  for (let row = 0; row < rows; row++) {
    const middleScale = rowScales[2 * row]!, stepScale = rowScales[2 * row + 1]!;
    halves[2 * row] = toHalf(stepScale);
    halves[2 * row + 1] = toHalf(middleScale);
    for (let g = row * groups; g < (row + 1) * groups; g++) {
      centres[g] = middleScale > 0 ? Math.round(params[2 * g]! / middleScale) : 0;
      scales[g] = stepScale > 0 ? Math.round(params[2 * g + 1]! / stepScale) : 0;
    }
  }
  return packers.codedTiles({ rows, cols, format: partFormat(format), borders, codes, scales, centres, rowScales: halves });
}

/** The packer finds the codes again: they are the nearest levels to what they mean. */
function planeTiles(packers: Packers, rows: number, cols: number, borders: number[], format: Format, { params }: Rounded, values: Float32Array): Tiles {
  const groups = Math.ceil(cols / format.groupSize), count = paramsOf(format), tiles = Math.ceil(rows / TILE_ROWS);
  const arranged = new Float32Array(tiles * groups * count * TILE_ROWS);
  for (let row = 0; row < rows; row++) {
    for (let g = 0; g < groups; g++) {
      const from = (row * groups + g) * count, to = (Math.floor(row / TILE_ROWS) * groups + g) * count * TILE_ROWS + row % TILE_ROWS;
      const steps = params.subarray(from + 1, from + count);
      steps.forEach((step, p) => { arranged[to + p * TILE_ROWS] = step; });
      arranged[to + (count - 1) * TILE_ROWS] = params[from]! - 0.5 * steps.reduce((sum, step) => sum + step, 0);
    }
  }
  const bytes = new Uint8Array(values.slice().buffer);
  return packers.tiles({
    encoding: 'f32', rows, cols, codes: bytes, scales: null, phases: null, param: 0, factor: 1,
    format: partFormat(format), borders, gamma: 1, ternaryScale: 1, keep: false, params: arranged,
  });
}

const float = new Float32Array(1), bits = new Uint32Array(float.buffer);
/** The bits of a half that is one already: no less than 0, finite. */
function toHalf(value: number): number {
  // In units of 2^-24 every half is whole; from 2^-14 on the exponent is moved.
  if (value < 2 ** -14) return value * 2 ** 24;
  float[0] = value;
  return (bits[0]! >>> 13) - (112 << 10);
}

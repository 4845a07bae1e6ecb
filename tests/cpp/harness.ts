/** A bare instance of one wasm variant, with random weights in any layout: for tests and benchmarks of single layers. */
import { readFileSync } from 'node:fs';
import { BLOCK_COLUMNS, BLOCK_PARAM_BYTES, Coding, GROUP_PARAM_BYTES, I16_MAX, Layout, TILE_ROWS, sizeOfLinear, sizeOfPart, writeLinear, writePart, type LinearFields, type PartFields } from '../../src/generated/layout.js';
import { partBorders, tileBytes, type PartFormat } from '../../src/formats/packed.js';

export interface Spec extends PartFormat {
  rows: number;
  cols: number;
  /** Cut into column segments, as o and down are. */
  segmented: boolean;
}

/** Deterministic noise in [-1, 1). */
export function noise(seed: number): () => number {
  let s = seed >>> 0 || 1;
  return () => {
    s ^= s << 13; s >>>= 0; s ^= s >>> 17; s ^= s << 5; s >>>= 0;
    return s / 2 ** 31 - 1;
  };
}

const up = (n: number, to: number) => Math.ceil(n / to) * to;

/** Fills a part with tiles of random codes and parameters: |value| < 1, f16 < 2, i16 < I16_MAX. */
export function randomTiles(view: DataView, format: PartFormat, cols: number, random: () => number): void {
  for (let at = 0; at < view.byteLength; at++) view.setUint8(at, (random() + 1) * 128);
  for (let at = 0; at < view.byteLength; at += tileBytes(format, cols)) makeSound(view, at, format, cols, random);
}

/** Random bytes are no sound floats, and padding must be zero. */
function makeSound(view: DataView, at: number, { layout, planes, groupSize, coding }: PartFormat, cols: number, random: () => number): void {
  if (layout === 'f32') {
    for (let i = 0; i < cols * TILE_ROWS; i++) view.setFloat32(at + 4 * i, random(), true);
    return;
  }
  if (layout === 'uniform') return makeSoundUniform(view, at, { layout, planes, groupSize, coding }, cols, random);
  const soundHalf = () => view.setUint16(at, ((random() > 0 ? 0x8000 : 0) | Math.floor((random() + 1) * 0x1e00)), true); // subnormals too
  if (layout === 'int8' && groupSize) {
    for (let k = 0; k < cols; k += groupSize) {
      at += TILE_ROWS * groupSize;
      for (let r = 0; r < TILE_ROWS; r++, at += 2) soundHalf();
    }
    return;
  }
  if (layout === 'int8') {
    for (let i = 0; i < up(cols, 2) * TILE_ROWS; i++) {
      if (view.getInt8(at + i) === -128 || (cols % 2 === 1 && i >= (cols - 1) * TILE_ROWS && i % 2 === 1)) view.setInt8(at + i, 0);
    }
    return;
  }
  const codes = groupSize / 8 * planes * TILE_ROWS;
  const values = layout === 'planes' ? planes + 1 : coding === 'none' ? 0 : 1;
  const size = coding === 'f32' ? 4 : 2;
  for (let group = 0; group < Math.ceil(cols / groupSize); group++) {
    if (layout === 'ternary') {
      for (let i = 0; i < codes; i += 32) for (let b = 0; b < 16; b++) {
        view.setUint8(at + i + 16 + b, view.getUint8(at + i + 16 + b) & ~view.getUint8(at + i + b));
      }
    }
    at += codes;
    for (let i = 0; i < values * TILE_ROWS && coding !== 'none'; i++, at += size) {
      if (coding === 'f32') view.setFloat32(at, random(), true);
      else if (coding === 'i16') view.setInt16(at, Math.round(random() * I16_MAX), true);
      else soundHalf();
    }
  }
}

function makeSoundUniform(view: DataView, at: number, { planes, groupSize, coding }: PartFormat, cols: number, random: () => number): void {
  const halves = (n: number) => {
    for (let i = 0; i < n; i++) view.setUint16(at + 2 * i, ((random() > 0 ? 0x8000 : 0) | Math.floor((random() + 1) * 0x1e00)), true);
  };
  for (let k = 0; k < cols; k += groupSize) {
    at += groupSize / 8 * planes * TILE_ROWS;
    if (coding === 'f32') for (let i = 0; i < 2 * TILE_ROWS; i++) view.setFloat32(at + 4 * i, random(), true);
    if (coding === 'f16' || coding === 'f16mid') halves(GROUP_PARAM_BYTES[coding] / 2);
    at += GROUP_PARAM_BYTES[coding];
    if (!BLOCK_PARAM_BYTES[coding] || (k + groupSize) % BLOCK_COLUMNS) continue;
    halves(BLOCK_PARAM_BYTES[coding] / 2);
    at += BLOCK_PARAM_BYTES[coding];
  }
}

export class Bare {
  readonly memory: WebAssembly.Memory;
  readonly exports: Record<string, Function>;
  private readonly base: number;
  private top: number;
  private readonly layers = new Map<number, { fields: Omit<LinearFields, 'nParts' | 'parts'>; parts: PartFields[]; table: number }>();

  constructor(variant: 'simd' | 'relaxed', megabytes = 64) {
    this.memory = new WebAssembly.Memory({ initial: megabytes * 16, maximum: 16384 });
    const module = new WebAssembly.Module(readFileSync(new URL(`./wasm/lutra-${variant}.wasm`, import.meta.url)));
    const instance = new WebAssembly.Instance(module, { env: { memory: this.memory } });
    this.exports = instance.exports as Record<string, Function>;
    this.top = this.base = up((instance.exports.__heap_base as WebAssembly.Global).value, 64);
  }

  take(bytes: number): number {
    const at = this.top;
    this.top = up(at + bytes, 64);
    if (this.top > this.memory.buffer.byteLength) this.memory.grow(Math.ceil((this.top - this.memory.buffer.byteLength) / 65536));
    return at;
  }
  /** Forgets everything taken. */
  clear(): void {
    this.top = this.base;
    this.layers.clear();
  }
  get view() { return new DataView(this.memory.buffer); }
  floats(at: number, n: number) { return new Float32Array(this.memory.buffer, at, n); }

  /** A linear layer with random codes and parameters; returns the address of its descriptor. */
  randomLinear(spec: Spec, seed: number): number {
    const random = noise(seed), tiles = Math.ceil(spec.rows / TILE_ROWS);
    const borders = partBorders(spec.cols, spec, spec.segmented);
    const rowScale = this.take(4 * up(spec.rows, 16)), own = spec.coding === 'i6';
    const parts = borders.slice(1).map((end, p): PartFields => {
      const cols = end - borders[p]!, bytes = tileBytes(spec, cols), data = this.take(tiles * bytes);
      randomTiles(new DataView(this.memory.buffer, data, tiles * bytes), spec, cols, random);
      return {
        layout: Layout[spec.layout], planes: spec.planes, groupSize: spec.groupSize, coding: Coding[spec.coding],
        colBegin: borders[p]!, cols, data, tileBytes: bytes, rowScale: own ? rowScale : 0,
      };
    });
    if (own) new Uint16Array(this.memory.buffer, rowScale, 2 * up(spec.rows, 16)).forEach((_, i, a) => { a[i] = 0x2800 + 512 * random(); }); // about 2^-5
    else this.floats(rowScale, spec.rows).forEach((_, i, a) => { a[i] = 0.5 + 0.25 * random(); });
    return this.writeLayer({ rows: spec.rows, cols: spec.cols, rowScale: own ? 0 : rowScale, bias: 0, firstRow: 0, byColumns: 0 }, parts);
  }

  /** A layer that `randomLinear` made, somewhere else in memory. */
  copyLinear(linear: number): number {
    const { fields, parts } = this.layers.get(linear)!;
    return this.writeLayer(fields, parts.map(part => {
      const bytes = Math.ceil(fields.rows / TILE_ROWS) * part.tileBytes, data = this.take(bytes);
      new Uint8Array(this.memory.buffer).copyWithin(data, part.data, part.data + bytes);
      return { ...part, data };
    }));
  }

  /** Bytes of its tiles. */
  bytesOf(linear: number): number {
    const { fields, parts } = this.layers.get(linear)!;
    return parts.reduce((sum, { tileBytes }) => sum + Math.ceil(fields.rows / TILE_ROWS) * tileBytes, 0);
  }

  /** The kernel that runs it. */
  nameOf(linear: number): string {
    const bytes = new Uint8Array(this.memory.buffer), at = this.exports.kernelName!(this.layers.get(linear)!.table);
    return new TextDecoder().decode(bytes.subarray(at, bytes.indexOf(0, at)));
  }

  private writeLayer(fields: Omit<LinearFields, 'nParts' | 'parts'>, parts: PartFields[]): number {
    const table = this.take(sizeOfPart * parts.length), at = this.take(sizeOfLinear);
    parts.forEach((part, i) => writePart(this.view, table + i * sizeOfPart, part));
    writeLinear(this.view, at, { ...fields, nParts: parts.length, parts: table });
    this.layers.set(at, { fields, parts, table });
    return at;
  }

  /** [m][rows] of one form of the layer on x [m][cols]. */
  run(linear: number, spec: Spec, x: Float32Array, m: number, reference: boolean): Float32Array {
    const { run, read } = this.prepare(linear, spec, x, m);
    run(reference);
    return read();
  }

  prepare(linear: number, spec: Spec, x: Float32Array, m: number) {
    const ldX = up(spec.cols, 128), ldY = up(spec.rows, 128);
    const xAt = this.take(4 * m * ldX), yAt = this.take(4 * m * ldY);
    for (let i = 0; i < m; i++) this.floats(xAt + 4 * i * ldX, spec.cols).set(x.subarray(i * spec.cols, (i + 1) * spec.cols));
    const base = this.take(this.exports.linearBytes!(linear, m) >>> 0);
    return {
      /** `layer`: it, or a copy. */
      run: (reference: boolean, layer = linear) => this.exports.linear!(layer, xAt, m, yAt, base, reference ? 1 : 0),
      read: () => {
        const y = new Float32Array(m * spec.rows);
        for (let i = 0; i < m; i++) y.set(this.floats(yAt + 4 * i * ldY, spec.rows), i * spec.rows);
        return y;
      },
    };
  }
}

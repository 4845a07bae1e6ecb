/** The packers' wasm instance and its memory: jobs are copied in, tiles are copied out. */
import { Coding, TILE_ROWS } from '../generated/layout.js';
import { tileBytes, type PartFormat } from '../formats/packed.js';
import type { Encoding } from '../formats/source.js';
import type { PartInfo } from '../formats/types.js';
import { readAsset } from '../platform/platform.js';
import { blockEncodings, blocksOf, rowDecoders, type RowDecoder, type RowSplitter } from './encodings.js';

/** Rows of a source matrix; plain data, fit to be posted to a worker. */
export interface RowsJob {
  encoding: Encoding;
  rows: number;
  cols: number;
  /** `rows` runs of equal length. */
  codes: Uint8Array;
  scales: Uint8Array | null;
  phases: Uint32Array | null;
  param: number;
  /** Multiplies every decoded weight. */
  factor: number;
}

/** Rows to be packed into tiles of every part of their matrix. */
export interface TilesJob extends RowsJob {
  format: PartFormat;
  /** Column borders of the parts. */
  borders: number[];
  /** Layout 'ternary': what weights are divided by before rounding, and the row scale. */
  gamma: number;
  ternaryScale: number;
  /** Codes, scales and zeros go into `format` as they are. */
  keep: boolean;
}

export interface Tiles {
  /** f32[tiles * 16], as bytes. */
  rowScale: Uint8Array<ArrayBuffer>;
  /** For each part its tiles, one after the other. */
  parts: Uint8Array<ArrayBuffer>[];
}

/** A weight that is NaN or infinite. */
export class NotFiniteError extends Error {}

type Plain = keyof typeof rowDecoders;
type Exports = Record<typeof rowDecoders[Plain], RowDecoder> & Record<typeof blockEncodings[Exclude<Encoding, Plain>]['split'], RowSplitter> & {
  heapBase(): number;
  rowFromCodes(codes: number, params: number, groupSize: number, cols: number, dst: number): void;
  planesFromCodes(codes: number, params: number, cols: number, begin: number, end: number, planes: number, groupSize: number, coding: number, dst: number): void;
  ternaryFromCodes(codes: number, params: number, cols: number, sourceGroup: number, begin: number, end: number, groupSize: number, coding: number, dst: number): void;
  fitHalves(params: number, count: number, planes: number): number;
  tileFromRows(rows: number, cols: number, tile: number): void;
  scaleRows(values: number, count: number, factor: number): void;
  allFinite(values: number, count: number): number;
  sumAbs(values: number, count: number): number;
  hlqFit(tile: number, cols: number, planes: number, groupSize: number, params: number, scratch: number): void;
  planesRowScale(params: number, groups: number, planes: number, rowScale: number): void;
  planesFromTile(tile: number, cols: number, planes: number, groupSize: number, coding: number, params: number, rowScale: number, dst: number, scratch: number): void;
  tileFromPlanes(src: number, cols: number, planes: number, groupSize: number, coding: number, rowScale: number, tile: number, scratch: number): void;
  ternaryFromTile(tile: number, cols: number, groupSize: number, gamma: number, dst: number): void;
  tileFromTernary(src: number, cols: number, groupSize: number, coding: number, rowScale: number, tile: number): void;
  int8RowScale(tile: number, cols: number, rowScale: number): void;
  int8FromTile(tile: number, cols: number, rowScale: number, dst: number): void;
  tileFromInt8(src: number, cols: number, rowScale: number, tile: number): void;
  f32FromTile(tile: number, cols: number, dst: number): void;
  tileFromF32(src: number, cols: number, rowScale: number, tile: number): void;
};

/** Addresses of a job's source: its bytes, and rows of blocks taken apart. */
interface SourceAt { codes: number; scales: number; split: number; pairs: number }

const SCRATCH_BYTES = 4096;
const PAGE = 65536;

export class Packers {
  private constructor(private readonly memory: WebAssembly.Memory, private readonly wasm: Exports) {}

  static async compile(): Promise<WebAssembly.Module> {
    return WebAssembly.compile(await readAsset('wasm/packers.wasm'));
  }

  static async create(module?: WebAssembly.Module): Promise<Packers> {
    const memory = new WebAssembly.Memory({ initial: 16 });
    const instance = await WebAssembly.instantiate(module ?? await Packers.compile(), { env: { memory } });
    return new Packers(memory, instance.exports as unknown as Exports);
  }

  /** Σ |w| over the rows, in their order. */
  sumAbs(job: RowsJob): number {
    let sum = 0;
    const at = this.place({ ...sourceSizes(job, 1), row: 4 * job.cols });
    this.copySource(job, at);
    for (let r = 0; r < job.rows; r++) {
      this.decode(job, r, at, at.row);
      sum += this.wasm.sumAbs(at.row, job.cols);
    }
    return sum;
  }

  /** Whether half precision holds the scales and zeros of rows of blocks as they would be stored (see fitHalves in assembly/exact.ts). */
  fitHalves(job: RowsJob): boolean {
    const { group, exact } = blocksOf(job.encoding)!;
    const at = this.place(sourceSizes(job, 1));
    this.copySource(job, at);
    for (let r = 0; r < job.rows; r++) {
      this.split(job, r, at, 0);
      if (!this.wasm.fitHalves(at.pairs, job.cols / group, exact!.planes)) return false;
    }
    return true;
  }

  /** Tiles of all rows; the last tile is filled up with zero rows. */
  tiles(job: TilesJob): Tiles {
    return job.keep ? this.keptTiles(job) : this.madeTiles(job);
  }

  /** Codes, scales and zeros as they are. */
  private keptTiles(job: TilesJob): Tiles {
    const { cols, format: { layout, planes, groupSize, coding } } = job, { group } = blocksOf(job.encoding)!;
    const parts = partsOf(job);
    const at = this.place({ ...sourceSizes(job, TILE_ROWS), out: Math.max(...parts.map(part => part.bytes)) });
    this.copySource(job, at);
    const result = emptyTiles(job, parts), bytes = new Uint8Array(this.memory.buffer);
    new Float32Array(result.rowScale.buffer).fill(1, 0, job.rows);
    for (let t = 0; t < result.rowScale.length / (4 * TILE_ROWS); t++) {
      const rows = Math.min(TILE_ROWS, job.rows - TILE_ROWS * t), values = 2 * TILE_ROWS * cols / group;
      if (rows < TILE_ROWS) bytes.fill(0, at.split, at.split + TILE_ROWS * cols).fill(0, at.pairs, at.pairs + 4 * values);
      for (let r = 0; r < rows; r++) this.split(job, TILE_ROWS * t + r, at, r);
      if (!this.wasm.allFinite(at.pairs, values)) throw new NotFiniteError();
      parts.forEach((part, i) => {
        const end = part.begin + part.cols;
        if (layout === 'planes') this.wasm.planesFromCodes(at.split, at.pairs, cols, part.begin, end, planes, groupSize, Coding[coding], at.out);
        else this.wasm.ternaryFromCodes(at.split, at.pairs, cols, group, part.begin, end, groupSize, Coding[coding], at.out);
        result.parts[i]!.set(bytes.subarray(at.out, at.out + part.bytes), t * part.bytes);
      });
    }
    return result;
  }

  private madeTiles(job: TilesJob): Tiles {
    const { cols, format } = job;
    const { layout, planes, groupSize } = format, coding = Coding[format.coding];
    const parts = partsOf(job);
    const groups = layout === 'planes' ? Math.ceil(cols / groupSize) : 0;
    const groupParams = 4 * TILE_ROWS * (planes + 1);
    const at = this.place({
      ...sourceSizes(job, 1), row: 4 * TILE_ROWS * cols, tile: 4 * TILE_ROWS * cols, params: groups * groupParams, rowScale: 4 * TILE_ROWS,
      out: Math.max(...parts.map(part => part.bytes)), scratch: SCRATCH_BYTES,
    });
    this.copySource(job, at);
    const tiles = Math.ceil(job.rows / TILE_ROWS), result = emptyTiles(job, parts);
    const bytes = new Uint8Array(this.memory.buffer), floats = new Float32Array(this.memory.buffer);

    for (let t = 0; t < tiles; t++) {
      const rows = Math.min(TILE_ROWS, job.rows - TILE_ROWS * t);
      this.sourceTile(job, TILE_ROWS * t, rows, at);
      const scale = floats.subarray(at.rowScale / 4, at.rowScale / 4 + TILE_ROWS).fill(layout === 'ternary' ? job.ternaryScale : 1);
      if (layout === 'int8') this.wasm.int8RowScale(at.tile, cols, at.rowScale);
      if (layout === 'planes') {
        this.wasm.hlqFit(at.tile, cols, planes, groupSize, at.params, at.scratch);
        if (format.coding === 'i16') this.wasm.planesRowScale(at.params, groups, planes, at.rowScale);
      }
      parts.forEach((part, i) => {
        const tile = at.tile + 4 * TILE_ROWS * part.begin;
        switch (layout) {
          case 'f32': this.wasm.f32FromTile(tile, part.cols, at.out); break;
          case 'int8': this.wasm.int8FromTile(tile, part.cols, at.rowScale, at.out); break;
          case 'ternary': this.wasm.ternaryFromTile(tile, part.cols, groupSize, job.gamma, at.out); break;
          case 'planes': {
            const params = at.params + part.begin / groupSize * groupParams;
            this.wasm.planesFromTile(tile, part.cols, planes, groupSize, coding, params, at.rowScale, at.out, at.scratch);
          }
        }
        result.parts[i]!.set(bytes.subarray(at.out, at.out + part.bytes), t * part.bytes);
      });
      scale.fill(0, rows);
      result.rowScale.set(bytes.subarray(at.rowScale, at.rowScale + 4 * TILE_ROWS), 4 * TILE_ROWS * t);
    }
    return result;
  }

  /** One packed tile of a part -> f32[cols][16], the row scales folded in. `rowScale`: f32[16] as bytes. */
  unpackTile(part: PartInfo, packed: Uint8Array, rowScale: Uint8Array): Float32Array<ArrayBuffer> {
    const { layout, planes, groupSize } = part, coding = Coding[part.coding], cols = part.colEnd - part.colBegin;
    const at = this.place({ packed: packed.length, rowScale: 4 * TILE_ROWS, tile: 4 * TILE_ROWS * cols, scratch: SCRATCH_BYTES });
    const bytes = new Uint8Array(this.memory.buffer);
    bytes.set(packed, at.packed);
    bytes.set(rowScale, at.rowScale);
    switch (layout) {
      case 'f32': this.wasm.tileFromF32(at.packed, cols, at.rowScale, at.tile); break;
      case 'int8': this.wasm.tileFromInt8(at.packed, cols, at.rowScale, at.tile); break;
      case 'ternary': this.wasm.tileFromTernary(at.packed, cols, groupSize, coding, at.rowScale, at.tile); break;
      case 'planes': this.wasm.tileFromPlanes(at.packed, cols, planes, groupSize, coding, at.rowScale, at.tile, at.scratch);
    }
    return new Float32Array(this.memory.buffer).slice(at.tile / 4, at.tile / 4 + TILE_ROWS * cols);
  }

  /** Decodes 16 rows (those that are missing are zero) and turns them into a tile. */
  private sourceTile(job: RowsJob, first: number, rows: number, at: SourceAt & { row: number; tile: number }): void {
    const { cols } = job;
    for (let r = 0; r < rows; r++) this.decode(job, first + r, at, at.row + 4 * cols * r);
    new Uint8Array(this.memory.buffer, at.row + 4 * cols * rows, 4 * cols * (TILE_ROWS - rows)).fill(0);
    if (job.factor !== 1) this.wasm.scaleRows(at.row, TILE_ROWS * cols, job.factor);
    if (!this.wasm.allFinite(at.row, TILE_ROWS * cols)) throw new NotFiniteError();
    this.wasm.tileFromRows(at.row, cols, at.tile);
  }

  private decode(job: RowsJob, r: number, at: SourceAt, to: number): void {
    const { encoding, cols, param, phases } = job, blocks = blocksOf(encoding);
    if (blocks) {
      this.split(job, r, at, 0);
      this.wasm.rowFromCodes(at.split, at.pairs, blocks.group, cols, to);
    } else {
      const stride = job.codes.length / job.rows, scalesStride = (job.scales?.length ?? 0) / job.rows;
      this.wasm[rowDecoders[encoding as Plain]](at.codes + stride * r, at.scales + scalesStride * r, to, cols, phases?.[r] ?? 0, param);
    }
  }

  /** Takes the blocks of row `r` apart, into the place of the `slot`-th row there. */
  private split(job: RowsJob, r: number, at: SourceAt, slot: number): void {
    const { encoding, cols } = job, { split, group } = blockEncodings[encoding as Exclude<Encoding, Plain>];
    this.wasm[split](at.codes + job.codes.length / job.rows * r, cols, at.split + cols * slot, at.pairs + 8 * cols / group * slot);
  }

  private copySource(job: RowsJob, at: { codes: number; scales: number }): void {
    const bytes = new Uint8Array(this.memory.buffer);
    bytes.set(job.codes, at.codes);
    if (job.scales) bytes.set(job.scales, at.scales);
  }

  /** Addresses for ranges of these sizes, one after the other from the heap's base on, each at a multiple of 64. */
  private place<Name extends string>(sizes: Record<Name, number>): Record<Name, number> {
    let end = this.wasm.heapBase();
    const at = {} as Record<Name, number>;
    for (const name in sizes) {
      at[name] = Math.ceil(end / 64) * 64;
      end = at[name] + sizes[name];
    }
    const missing = Math.ceil((end - this.memory.buffer.byteLength) / PAGE);
    if (missing > 0) this.memory.grow(missing);
    return at;
  }
}

/** `slots`: rows of blocks that are apart at the same time. */
function sourceSizes({ encoding, cols, codes, scales }: RowsJob, slots: number) {
  const blocks = blocksOf(encoding);
  return {
    codes: codes.length, scales: scales?.length ?? 0,
    split: blocks ? slots * cols : 0, pairs: blocks ? 8 * slots * cols / blocks.group : 0,
  };
}

interface PartPlace { begin: number; cols: number; bytes: number }

const partsOf = ({ borders, format }: TilesJob): PartPlace[] =>
  borders.slice(1).map((end, i) => ({ begin: borders[i]!, cols: end - borders[i]!, bytes: tileBytes(format, end - borders[i]!) }));

function emptyTiles({ rows }: TilesJob, parts: PartPlace[]): Tiles {
  const tiles = Math.ceil(rows / TILE_ROWS);
  return { rowScale: new Uint8Array(4 * TILE_ROWS * tiles), parts: parts.map(part => new Uint8Array(tiles * part.bytes)) };
}

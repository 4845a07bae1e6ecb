/** The packers' wasm instance and its memory: jobs are copied in, tiles are copied out. */
import { Coding, TILE_ROWS } from '../generated/layout.js';
import { tileBytes, type PartFormat } from '../formats/packed.js';
import type { Encoding } from '../formats/source.js';
import type { PartInfo } from '../formats/types.js';
import { readAsset } from '../platform/platform.js';
import { Buffers } from './buffers.js';
import { SMALL_BYTES, blockEncodings, blocksOf, paramBytes, rowDecoders, type RowDecoder, type RowSplitter } from './encodings.js';

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
  /** Codes and parameters go into `format` as they are; coding 'none': the one scale of all groups is `ternaryScale`. */
  keep: boolean;
  /** Shared memory for the tiles of each part. */
  into?: Uint8Array[];
  /** Layout 'planes': the parameters, where they are found already: for each tile f32[groups][planes + 1][16], s_0 … and z. */
  params?: Float32Array;
}

/** Rows that somebody has quantised: uniform levels with 6-bit parameters, w = Ss sc (q - (2^P - 1) / 2) + Sc c. */
export interface CodedJob {
  rows: number;
  cols: number;
  /** Layout 'uniform', coding 'i6'. */
  format: PartFormat;
  /** Column borders of the parts. */
  borders: number[];
  /** q: [rows][cols], below 2^P. */
  codes: Uint8Array;
  /** sc: [rows][groups], below 64; c: [rows][groups], -32 to 31. */
  scales: Uint8Array;
  centres: Int8Array;
  /** Ss, Sc: [rows][2], halves. */
  rowScales: Uint16Array;
}

export interface Tiles {
  /** For each tile f32[16], as bytes; coding 'i6': 16 halves Ss, 16 halves Sc. */
  rowScale: Uint8Array<ArrayBuffer>;
  /** For each part its tiles, one after the other. */
  parts: Uint8Array[];
}

/** A weight that is NaN or infinite. */
export class NotFiniteError extends Error {}

type Plain = keyof typeof rowDecoders;
type Split = typeof blockEncodings[Exclude<Encoding, Plain>]['split'];
type Exports = Record<typeof rowDecoders[Plain], RowDecoder> & Record<Split, RowSplitter> & {
  heapBase(): number;
  planesFromElutq(codes: number, scales: number, cols: number, begin: number, end: number, planes: number, groupSize: number, dst: number): void;
  elutqFromPlanes(src: number, cols: number, begin: number, end: number, planes: number, groupSize: number, codes: number, scales: number): void;
  halvesFinite(halves: number, count: number): number;
  halvesFromF32(values: number, count: number, dst: number): number;
  alikeTrits(codes: number, params: number, cols: number, sourceGroup: number): void;
  rowFromCodes(codes: number, params: number, groupSize: number, cols: number, dst: number): void;
  int8FromCodes(codes: number, params: number, cols: number, begin: number, end: number, groupSize: number, dst: number): void;
  uniformFromPairs(codes: number, stride: number, pairs: number, groups: number, begin: number, end: number, planes: number, groupSize: number, coding: number, dst: number): number;
  uniformFromSmall(codes: number, stride: number, small: number, rowBytes: number, perBlock: number, begin: number, end: number, planes: number, groupSize: number, coding: number, dst: number): number;
  smallFinite(small: number, blocks: number): number;
  pairsFromSmall(small: number, groups: number, perBlock: number, middle: number, pairs: number): void;
  tileFromUniform(src: number, cols: number, planes: number, groupSize: number, coding: number, rowScale: number, tile: number): void;
  ternaryFromCodes(codes: number, params: number, cols: number, sourceGroup: number, begin: number, end: number, groupSize: number, coding: number, dst: number): void;
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
  tileFromInt8(src: number, cols: number, groupSize: number, rowScale: number, tile: number): void;
  f32FromTile(tile: number, cols: number, dst: number): void;
  tileFromF32(src: number, cols: number, rowScale: number, tile: number): void;
};

/** Addresses of a job's source: its bytes, and rows of blocks taken apart: codes, parameters as they come, and as pairs. */
interface SourceAt { codes: number; scales: number; split: number; params: number; pairs: number }

const SCRATCH_BYTES = 4096;
const PAGE = 65536;

export class Packers {
  /** What tiles are made in. */
  readonly buffers = new Buffers();
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

  /** The weights, f32 [rows][cols]. */
  rows(job: RowsJob): Float32Array<ArrayBuffer> {
    const { rows, cols } = job, size = 4 * TILE_ROWS * cols;
    const at = this.place({ ...sourceSizes(job, 1), row: size });
    this.copySource(job, at);
    const result = new Float32Array(rows * cols);
    for (let first = 0; first < rows; first += TILE_ROWS) {
      const count = this.sourceRows(job, first, Math.min(TILE_ROWS, rows - first), at) * cols;
      result.set(new Float32Array(this.memory.buffer, at.row, count), first * cols);
    }
    return result;
  }

  /** Of rows of blocks: the size of all their scales that are not 0, or NaN where there are several; 0 where all are 0. */
  oneScale(job: RowsJob): number {
    const at = this.place(sourceSizes(job, 1)), count = job.cols / blocksOf(job)!.group;
    this.copySource(job, at);
    let found = 0;
    for (let r = 0; r < job.rows; r++) {
      this.split(job, r, at);
      this.pairs(job, at);
      const pairs = new Float32Array(this.memory.buffer, at.pairs, 2 * count);
      for (let i = 0; i < count; i++) {
        const scale = Math.abs(pairs[2 * i]!);
        found ||= scale;
        if (scale !== 0 && scale !== found) return NaN;
      }
    }
    return found;
  }

  /** Tiles of all rows; the last tile is filled up with zero rows. */
  tiles(job: TilesJob): Tiles {
    return job.keep ? this.keptTiles(job) : this.madeTiles(job);
  }

  /** Codes and parameters as they are. */
  private keptTiles(job: TilesJob): Tiles {
    if (job.encoding === 'elutq') return this.elutqTiles(job);
    const { cols, format } = job, blocks = blocksOf(job)!, { group, perBlock } = blocks;
    const { layout, planes, groupSize } = format, coding = Coding[format.coding];
    const parts = partsOf(job), rowBytes = paramBytes(blocks, cols), sourceBytes = job.codes.length / job.rows, split = this.wasm[blocks.split as Split];
    const at = this.place({ ...sourceSizes(job, TILE_ROWS), out: Math.max(...parts.map(part => part.bytes)) });
    this.copySource(job, at);
    const result = emptyTiles(job, parts, this.buffers), bytes = new Uint8Array(this.memory.buffer);
    const alike = layout === 'ternary' && format.coding === 'none';
    new Float32Array(result.rowScale.buffer).fill(alike ? job.ternaryScale : 1, 0, job.rows);
    for (let t = 0; t < result.rowScale.length / (4 * TILE_ROWS); t++) {
      const rows = Math.min(TILE_ROWS, job.rows - TILE_ROWS * t);
      bytes.fill(0, at.split + cols * rows, at.split + cols * TILE_ROWS).fill(0, at.params + rowBytes * rows, at.params + rowBytes * TILE_ROWS);
      for (let r = 0; r < rows; r++) split(at.codes + sourceBytes * (TILE_ROWS * t + r), cols, at.split + cols * r, at.params + rowBytes * r, group);
      const finite = perBlock ? this.wasm.smallFinite(at.params, TILE_ROWS * rowBytes / SMALL_BYTES) : this.wasm.allFinite(at.params, TILE_ROWS * rowBytes / 4);
      if (!finite) throw new NotFiniteError();
      if (alike) for (let r = 0; r < rows; r++) this.wasm.alikeTrits(at.split + cols * r, at.params + rowBytes * r, cols, group);
      parts.forEach(({ begin, cols: width, bytes: size }, i) => {
        const end = begin + width;
        switch (layout) {
          case 'int8': this.wasm.int8FromCodes(at.split, at.params, cols, begin, end, groupSize, at.out); break;
          case 'ternary': this.wasm.ternaryFromCodes(at.split, at.params, cols, group, begin, end, groupSize, coding, at.out); break;
          default:
            if (perBlock) this.wasm.uniformFromSmall(at.split, cols, at.params, rowBytes, perBlock, begin, end, planes, groupSize, coding, at.out);
            else this.wasm.uniformFromPairs(at.split, cols, at.params, cols / groupSize, begin, end, planes, groupSize, coding, at.out);
        }
        result.parts[i]!.set(bytes.subarray(at.out, at.out + size), t * size);
      });
    }
    return result;
  }

  private elutqTiles(job: TilesJob): Tiles {
    const { rows, cols, codes, scales, format: { planes, groupSize } } = job;
    const parts = partsOf(job), rowCodes = codes.length / rows, rowScales = scales!.length / rows;
    const at = this.place({ codes: TILE_ROWS * rowCodes, scales: TILE_ROWS * rowScales, out: Math.max(...parts.map(part => part.bytes)) });
    const result = emptyTiles(job, parts, this.buffers), bytes = new Uint8Array(this.memory.buffer);
    new Float32Array(result.rowScale.buffer).fill(1, 0, rows);
    for (let first = 0; first < rows; first += TILE_ROWS) {
      bytes.fill(0, at.codes, at.codes + TILE_ROWS * rowCodes).fill(0, at.scales, at.scales + TILE_ROWS * rowScales);
      bytes.set(codes.subarray(first * rowCodes, (first + TILE_ROWS) * rowCodes), at.codes);
      bytes.set(scales!.subarray(first * rowScales, (first + TILE_ROWS) * rowScales), at.scales);
      if (!this.wasm.halvesFinite(at.scales, TILE_ROWS * rowScales / 2)) throw new NotFiniteError();
      parts.forEach((part, i) => {
        this.wasm.planesFromElutq(at.codes, at.scales, cols, part.begin, part.begin + part.cols, planes, groupSize, at.out);
        result.parts[i]!.set(bytes.subarray(at.out, at.out + part.bytes), first / TILE_ROWS * part.bytes);
      });
    }
    return result;
  }

  /** A tile of each part, layout 'planes' and coding 'f16' -> 16 rows: codes [16][planes][cols / 8], scales and zeros [16][planes + 1][groups]. */
  elutqRows({ planes, groupSize }: PartFormat, cols: number, borders: number[], tiles: Uint8Array[]): { codes: Uint8Array; scales: Uint16Array } {
    const codeBytes = TILE_ROWS * planes * cols / 8, scaleBytes = TILE_ROWS * (planes + 1) * cols / groupSize * 2;
    const at = this.place({ tile: Math.max(...tiles.map(tile => tile.length)), codes: codeBytes, scales: scaleBytes });
    tiles.forEach((tile, i) => {
      new Uint8Array(this.memory.buffer).set(tile, at.tile);
      this.wasm.elutqFromPlanes(at.tile, cols, borders[i]!, borders[i + 1]!, planes, groupSize, at.codes, at.scales);
    });
    return { codes: new Uint8Array(this.memory.buffer).slice(at.codes, at.codes + codeBytes), scales: new Uint16Array(this.memory.buffer.slice(at.scales, at.scales + scaleBytes)) };
  }

  /** The nearest halves, and how many values they do not hold exactly. */
  halves(values: Float32Array): { halves: Uint16Array; changed: number } {
    const at = this.place({ values: values.byteLength, halves: 2 * values.length });
    new Float32Array(this.memory.buffer).set(values, at.values / 4);
    const changed = this.wasm.halvesFromF32(at.values, values.length, at.halves);
    return { halves: new Uint16Array(this.memory.buffer.slice(at.halves, at.halves + 2 * values.length)), changed };
  }

  /** Tiles of weights that are coded already. */
  codedTiles(job: CodedJob): Tiles {
    const { rows, cols, format: { planes, groupSize } } = job, coding = Coding.i6;
    const parts = partsOf(job), groups = Math.ceil(cols / groupSize), stride = groups * groupSize, perBlock = 16;
    const rowBytes = SMALL_BYTES * Math.ceil(groups / perBlock);
    const at = this.place({ codes: TILE_ROWS * stride, small: TILE_ROWS * rowBytes, out: Math.max(...parts.map(part => part.bytes)) });
    const bytes = new Uint8Array(this.memory.buffer), result = emptyTiles(job, parts, this.buffers), rowScale = new Uint16Array(result.rowScale.buffer);
    for (let first = 0; first < rows; first += TILE_ROWS) {
      bytes.fill(0, at.codes, at.codes + TILE_ROWS * stride).fill(0, at.small, at.small + TILE_ROWS * rowBytes);
      for (let r = 0; r < TILE_ROWS && first + r < rows; r++) {
        const row = first + r;
        bytes.set(job.codes.subarray(row * cols, (row + 1) * cols), at.codes + r * stride);
        for (let g = 0; g < groups; g++) {
          const small = at.small + r * rowBytes + SMALL_BYTES * Math.floor(g / perBlock) + g % perBlock;
          bytes[small + 4] = job.scales[row * groups + g]!;
          bytes[small + 20] = job.centres[row * groups + g]!;
        }
        rowScale[2 * first + r] = job.rowScales[2 * row]!;
        rowScale[2 * first + TILE_ROWS + r] = job.rowScales[2 * row + 1]!;
      }
      parts.forEach(({ begin, cols: width, bytes: size }, i) => {
        bytes.fill(0, at.out, at.out + size);
        this.wasm.uniformFromSmall(at.codes, stride, at.small, rowBytes, perBlock, begin, begin + width, planes, groupSize, coding, at.out);
        result.parts[i]!.set(bytes.subarray(at.out, at.out + size), first / TILE_ROWS * size);
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
      ...sourceSizes(job, 1), row: 4 * TILE_ROWS * cols, tile: 4 * TILE_ROWS * cols, fitted: groups * groupParams, rowScale: 4 * TILE_ROWS,
      out: Math.max(...parts.map(part => part.bytes)), scratch: SCRATCH_BYTES,
    });
    this.copySource(job, at);
    const tiles = Math.ceil(job.rows / TILE_ROWS), result = emptyTiles(job, parts, this.buffers);
    const bytes = new Uint8Array(this.memory.buffer), floats = new Float32Array(this.memory.buffer);

    for (let t = 0; t < tiles; t++) {
      const rows = Math.min(TILE_ROWS, job.rows - TILE_ROWS * t);
      this.sourceTile(job, TILE_ROWS * t, rows, at);
      const scale = floats.subarray(at.rowScale / 4, at.rowScale / 4 + TILE_ROWS).fill(layout === 'ternary' ? job.ternaryScale : 1);
      if (layout === 'int8') this.wasm.int8RowScale(at.tile, cols, at.rowScale);
      if (layout === 'planes') {
        if (job.params) new Float32Array(this.memory.buffer, at.fitted, groups * groupParams / 4).set(job.params.subarray(t * groups * groupParams / 4, (t + 1) * groups * groupParams / 4));
        else this.wasm.hlqFit(at.tile, cols, planes, groupSize, at.fitted, at.scratch);
        if (format.coding === 'i16') this.wasm.planesRowScale(at.fitted, groups, planes, at.rowScale);
      }
      parts.forEach((part, i) => {
        const tile = at.tile + 4 * TILE_ROWS * part.begin;
        switch (layout) {
          case 'f32': this.wasm.f32FromTile(tile, part.cols, at.out); break;
          case 'int8': this.wasm.int8FromTile(tile, part.cols, at.rowScale, at.out); break;
          case 'ternary': this.wasm.ternaryFromTile(tile, part.cols, groupSize, job.gamma, at.out); break;
          case 'planes': {
            const params = at.fitted + part.begin / groupSize * groupParams;
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

  /** One packed tile of a part -> f32[cols][16], the row scales folded in. `rowScale`: the tile's 64 bytes of the tensor. */
  unpackTile(part: PartInfo, packed: Uint8Array, rowScale: Uint8Array): Float32Array<ArrayBuffer> {
    const { layout, planes, groupSize } = part, coding = Coding[part.coding], cols = part.colEnd - part.colBegin;
    const at = this.place({ packed: packed.length, rowScale: 4 * TILE_ROWS, tile: 4 * TILE_ROWS * cols, scratch: SCRATCH_BYTES });
    const bytes = new Uint8Array(this.memory.buffer);
    bytes.set(packed, at.packed);
    bytes.set(rowScale, at.rowScale);
    switch (layout) {
      case 'f32': this.wasm.tileFromF32(at.packed, cols, at.rowScale, at.tile); break;
      case 'int8': this.wasm.tileFromInt8(at.packed, cols, groupSize, at.rowScale, at.tile); break;
      case 'uniform': this.wasm.tileFromUniform(at.packed, cols, planes, groupSize, coding, at.rowScale, at.tile); break;
      case 'ternary': this.wasm.tileFromTernary(at.packed, cols, groupSize, coding, at.rowScale, at.tile); break;
      case 'planes': this.wasm.tileFromPlanes(at.packed, cols, planes, groupSize, coding, at.rowScale, at.tile, at.scratch);
    }
    return new Float32Array(this.memory.buffer).slice(at.tile / 4, at.tile / 4 + TILE_ROWS * cols);
  }

  /** Decodes 16 rows (those that are missing are zero) and turns them into a tile. */
  private sourceTile(job: RowsJob, first: number, rows: number, at: SourceAt & { row: number; tile: number }): void {
    this.sourceRows(job, first, rows, at);
    this.wasm.tileFromRows(at.row, job.cols, at.tile);
  }

  /** Decodes up to 16 rows, f32 [16][cols]; those that are missing are zero. Returns how many there are. */
  private sourceRows(job: RowsJob, first: number, rows: number, at: SourceAt & { row: number }): number {
    const { cols } = job;
    for (let r = 0; r < rows; r++) this.decode(job, first + r, at, at.row + 4 * cols * r);
    new Uint8Array(this.memory.buffer, at.row + 4 * cols * rows, 4 * cols * (TILE_ROWS - rows)).fill(0);
    if (job.factor !== 1) this.wasm.scaleRows(at.row, TILE_ROWS * cols, job.factor);
    if (!this.wasm.allFinite(at.row, TILE_ROWS * cols)) throw new NotFiniteError();
    return rows;
  }

  private decode(job: RowsJob, r: number, at: SourceAt, to: number): void {
    const { encoding, cols, param, phases } = job, blocks = blocksOf(job);
    if (blocks) {
      this.split(job, r, at);
      this.pairs(job, at);
      this.wasm.rowFromCodes(at.split, at.pairs, blocks.group, cols, to);
    } else {
      const stride = job.codes.length / job.rows, scalesStride = (job.scales?.length ?? 0) / job.rows;
      this.wasm[rowDecoders[encoding as Plain]](at.codes + stride * r, at.scales + scalesStride * r, to, cols, phases?.[r] ?? 0, param);
    }
  }

  /** Takes the blocks of row `r` apart. */
  private split(job: RowsJob, r: number, at: SourceAt): void {
    const blocks = blocksOf(job)!;
    this.wasm[blocks.split as Split](at.codes + job.codes.length / job.rows * r, job.cols, at.split, at.params, blocks.group);
  }

  /** Scales and zeros of a row that is apart as f32, at `at.pairs`. */
  private pairs(job: RowsJob, at: SourceAt): void {
    const { cols } = job, { group, perBlock, middle = 0 } = blocksOf(job)!;
    if (perBlock) this.wasm.pairsFromSmall(at.params, cols / group, perBlock, middle, at.pairs);
    else new Uint8Array(this.memory.buffer).copyWithin(at.pairs, at.params, at.params + 8 * cols / group);
  }

  private copySource(job: RowsJob, at: Pick<SourceAt, 'codes' | 'scales'>): void {
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
function sourceSizes(job: RowsJob, slots: number) {
  const { cols, codes, scales } = job, blocks = blocksOf(job);
  return {
    codes: codes.length, scales: scales?.length ?? 0,
    split: blocks ? slots * cols : 0, params: blocks ? slots * paramBytes(blocks, cols) : 0, pairs: blocks ? 8 * cols / blocks.group : 0,
  };
}

interface PartPlace { begin: number; cols: number; bytes: number }

const partsOf = ({ borders, format }: Pick<TilesJob, 'borders' | 'format'>): PartPlace[] =>
  borders.slice(1).map((end, i) => ({ begin: borders[i]!, cols: end - borders[i]!, bytes: tileBytes(format, end - borders[i]!) }));

function emptyTiles({ rows, into }: Pick<TilesJob, 'rows' | 'into'>, parts: PartPlace[], buffers: Buffers): Tiles {
  const tiles = Math.ceil(rows / TILE_ROWS);
  return { rowScale: new Uint8Array(4 * TILE_ROWS * tiles), parts: into ?? parts.map(part => buffers.take(tiles * part.bytes)) };
}

/**
 * What a member of a private crew holds of each matrix: whole tiles of rows, and of q, k and v whole heads that belong
 * together; of o and down, where it can be, all rows of the column segments that read what the member itself has made.
 */
import type { PackedHeader, PartInfo } from '../formats/types.js';
import { SEGMENTS, TILE_ROWS } from '../generated/layout.js';

export interface Slice { rank: number; ranks: number }
export interface Range { begin: number; end: number }
/** Of one linear layer. */
export interface Cut { tiles: Range; parts: PartInfo[]; byColumns: boolean }

/** All rows. */
export const whole: Slice = { rank: 0, ranks: 1 };

/** Rank's part of n things when each gets about the same. */
const share = (n: number, { rank, ranks }: Slice): Range => ({ begin: Math.floor(n * rank / ranks), end: Math.floor(n * (rank + 1) / ranks) });

export const tilesOf = (rows: number): number => Math.ceil(rows / TILE_ROWS);

/** Heads of 8 columns more than whole tiles are cut in pairs. */
function headTiles({ config: { nHeads, nHeadsKv, headDim } }: PackedHeader, which: string, slice: Slice): Range {
  const together = headDim % TILE_ROWS === 0 ? 1 : 2, heads = which === 'q' ? nHeads / nHeadsKv : 1;
  const { begin, end } = share(Math.ceil(nHeadsKv / together), slice), tiles = together * headDim * heads / TILE_ROWS;
  const all = tilesOf(nHeadsKv * heads * headDim);
  return { begin: Math.min(all, begin * tiles), end: Math.min(all, end * tiles) };
}

/** The segments of a layer that a member holds when it holds columns: a half of them, or one. */
const segments = (parts: PartInfo[], slice: Slice): PartInfo[] => {
  const { begin, end } = share(SEGMENTS, slice);
  return parts.slice(begin, end);
};

/** Whether all layers' o (or down) can be held by columns: each member makes just the groups of columns that it reads. */
function columnsFit(header: PackedHeader, name: 'attn.o' | 'ffn.down', slice: Slice): boolean {
  const { config, linears, tensors } = header, { ranks } = slice;
  if (ranks !== 2 && ranks !== SEGMENTS) return false;
  if (`layers.0.${name === 'attn.o' ? 'attn' : 'ffn'}.subNorm` in tensors) return false; // it needs the whole vector
  const groupOfHeads = config.nHeads / config.nHeadsKv * config.headDim;
  for (let i = 0; i < config.nLayers; i++) {
    const { parts } = linears[`layers.${i}.${name}`]!, { layout, groupSize } = parts[0]!;
    if (parts.length !== SEGMENTS || (layout !== 'planes' && layout !== 'uniform')) return false; // others scale the whole vector
    if (name === 'ffn.down') continue;
    if (groupOfHeads % groupSize !== 0) return false;
    for (let rank = 0; rank < ranks; rank++) {
      if (segments(parts, { rank, ranks })[0]!.colBegin !== headTiles(header, 'q', { rank, ranks }).begin * TILE_ROWS) return false;
    }
  }
  return true;
}

/** What is held, by the name of a linear layer. */
export function cut(header: PackedHeader, slice: Slice): (name: string) => Cut {
  const { config, linears } = header, out = columnsFit(header, 'attn.o', slice), down = columnsFit(header, 'ffn.down', slice);
  const tilesHeld = (name: string): Range => {
    const [, layer, matrix] = /^(layers\.\d+)\.(.*)$/.exec(name) ?? [], all = tilesOf(linears[name]!.rows);
    if (matrix && /^attn\.[qkv]$/.test(matrix)) return headTiles(header, matrix.at(-1)!, slice);
    if (down && (matrix === 'ffn.gate' || matrix === 'ffn.up')) {
      const columns = segments(linears[`${layer}.ffn.down`]!.parts, slice);
      return { begin: columns[0]!.colBegin / TILE_ROWS, end: tilesOf(columns.at(-1)!.colEnd) };
    }
    // Its rows are looked up where a pass begins; a head that is the same matrix is shared like any other.
    if (name === 'embedding' && (slice.rank === 0 || !config.tiedHead)) return { begin: 0, end: slice.rank === 0 ? all : 0 };
    return share(all, slice);
  };
  return name => {
    const { rows, parts } = linears[name]!, byColumns = (out && name.endsWith('.attn.o')) || (down && name.endsWith('.ffn.down'));
    return byColumns ? { tiles: { begin: 0, end: tilesOf(rows) }, parts: segments(parts, slice), byColumns } : { tiles: tilesHeld(name), parts, byColumns };
  };
}

/** Tiles of the embedding that serve as the head; undefined where the head is a matrix of its own, or all of the embedding. */
export function tiedHeadTiles({ config, linears }: PackedHeader, slice: Slice): Range | undefined {
  return config.tiedHead && slice.ranks > 1 ? share(tilesOf(linears.embedding!.rows), slice) : undefined;
}

/** KV heads whose keys and values are kept. */
export function heldKvHeads(header: PackedHeader, slice: Slice): number {
  const { begin, end } = headTiles(header, 'k', slice), { nHeadsKv, headDim } = header.config;
  return Math.max(0, Math.min(nHeadsKv * headDim, end * TILE_ROWS) - begin * TILE_ROWS) / headDim;
}

/** Bytes of the data section by tensor: all of norms, and the held tiles of what belongs to a linear layer. In file order. */
export function heldBytes(header: PackedHeader, slice: Slice): Map<string, Range> {
  const held = new Map<string, Range>(), cuts = cut(header, slice);
  for (const [name, { begin, end }] of Object.entries(header.tensors)) if (name !== 'tokenizer') held.set(name, { begin, end });
  const hold = (tensor: string, all: number, tiles: Range) => {
    const { begin, end } = held.get(tensor)!, each = (end - begin) / all;
    held.set(tensor, { begin: begin + tiles.begin * each, end: begin + tiles.end * each });
  };
  for (const [name, { rows, rowScale, bias, parts }] of Object.entries(header.linears)) {
    const { tiles, parts: kept } = cuts(name), all = tilesOf(rows);
    for (const tensor of bias === undefined ? [rowScale] : [rowScale, bias]) hold(tensor, all, tiles);
    for (const part of parts) hold(part.tensor, all, kept.includes(part) ? tiles : { begin: 0, end: 0 });
  }
  return held;
}

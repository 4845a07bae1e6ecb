/** Which rows of each matrix a member of a private crew holds: whole tiles, and of q, k and v whole heads that belong together. */
import type { PackedHeader } from '../formats/types.js';
import { TILE_ROWS } from '../generated/layout.js';

export interface Slice { rank: number; ranks: number }
export interface Range { begin: number; end: number }

/** All rows. */
export const whole: Slice = { rank: 0, ranks: 1 };

/** Rank's part of n things when each gets about the same. */
const share = (n: number, { rank, ranks }: Slice): Range => ({ begin: Math.floor(n * rank / ranks), end: Math.floor(n * (rank + 1) / ranks) });

export const tilesOf = (rows: number): number => Math.ceil(rows / TILE_ROWS);

/** Tiles of the linear layer `name`. */
export function heldTiles({ config, linears }: PackedHeader, name: string, slice: Slice): Range {
  const { nHeads, nHeadsKv, headDim } = config, tiles = tilesOf(linears[name]!.rows);
  const cut = /\.attn\.([qkv])$/.exec(name);
  if (cut) {
    // Heads of 8 columns more than whole tiles are cut in pairs.
    const together = headDim % TILE_ROWS === 0 ? 1 : 2, rows = together * headDim * (cut[1] === 'q' ? nHeads / nHeadsKv : 1) / TILE_ROWS;
    const { begin, end } = share(Math.ceil(nHeadsKv / together), slice);
    return { begin: Math.min(tiles, begin * rows), end: Math.min(tiles, end * rows) };
  }
  // Its rows are looked up where a pass begins; a head that is the same matrix is shared like any other.
  if (name === 'embedding' && (slice.rank === 0 || !config.tiedHead)) return { begin: 0, end: slice.rank === 0 ? tiles : 0 };
  return share(tiles, slice);
}

/** Tiles of the embedding that serve as the head; undefined where the head is a matrix of its own, or all of the embedding. */
export function tiedHeadTiles({ config, linears }: PackedHeader, slice: Slice): Range | undefined {
  return config.tiedHead && slice.ranks > 1 ? share(tilesOf(linears.embedding!.rows), slice) : undefined;
}

/** KV heads whose keys and values are kept. */
export function heldKvHeads(header: PackedHeader, slice: Slice): number {
  const { rows } = header.linears['layers.0.attn.k']!, { begin, end } = heldTiles(header, 'layers.0.attn.k', slice);
  return Math.max(0, Math.min(rows, end * TILE_ROWS) - begin * TILE_ROWS) / header.config.headDim;
}

/** Bytes of the data section by tensor: all of norms, and the held tiles of what belongs to a linear layer. In file order. */
export function heldBytes(header: PackedHeader, slice: Slice): Map<string, Range> {
  const held = new Map<string, Range>();
  for (const [name, { begin, end }] of Object.entries(header.tensors)) if (name !== 'tokenizer') held.set(name, { begin, end });
  for (const [name, { rows, rowScale, bias, parts }] of Object.entries(header.linears)) {
    const tiles = heldTiles(header, name, slice);
    for (const tensor of [rowScale, ...bias === undefined ? [] : [bias], ...parts.map(part => part.tensor)]) {
      const { begin, end } = held.get(tensor)!, each = (end - begin) / tilesOf(rows);
      held.set(tensor, { begin: begin + tiles.begin * each, end: begin + tiles.end * each });
    }
  }
  return held;
}

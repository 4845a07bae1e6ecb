/**
 * Pieces and their ids in flat arrays. A map from strings takes three times as much, and of making one a heap of garbage is
 * left: a page cannot have it collected before its weights come.
 */
import { largeBytes } from '../platform/platform.js';

/** Ids are below this. */
export const MAX_ID = 2 ** 24;
/** Entries looked at for one piece; of pieces that nobody has chosen for that, it takes 81 at most. */
const MAX_STEPS = 1000;

const encoder = new TextEncoder(), decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** Takes pieces one after the other. */
export class VocabularyBuilder {
  private readonly bytes: Uint8Array;
  private begins: Uint32Array;
  private ends: Uint32Array;
  private count = 0;
  private at = 0;

  /** @param mostBytes of all pieces @param mostPieces room that is not used takes addresses only */
  constructor(mostBytes: number, mostPieces: number) {
    this.bytes = largeBytes(mostBytes);
    this.begins = largeNumbers(mostPieces);
    this.ends = largeNumbers(mostPieces);
  }

  /** A piece: UTF-8 in `source` from `begin` to `end`. Of those that share an id the last counts. */
  add(source: Uint8Array, begin: number, end: number, id: number): void {
    if (id >= this.ends.length) {
      this.begins = larger(this.begins, 2 * (id + 1));
      this.ends = larger(this.ends, 2 * (id + 1));
    }
    this.begins[id] = 1 + this.at;
    for (let i = begin; i < end; i++) this.bytes[this.at++] = source[i]!;
    this.ends[id] = this.at;
    this.count = Math.max(this.count, id + 1);
  }

  finish(): Vocabulary { return new Vocabulary(this.bytes, this.begins, this.ends, this.count); }
}

const largeNumbers = (length: number) => new Uint32Array(largeBytes(4 * length).buffer);

function larger(numbers: Uint32Array, length: number): Uint32Array {
  const copy = largeNumbers(length);
  copy.set(numbers);
  return copy;
}

/** @param pieces by id */
export function vocabularyOf(pieces: readonly string[]): Vocabulary {
  let all = 0, longest = 0;
  for (const { length } of pieces) {
    all += 3 * length;
    longest = Math.max(longest, 3 * length);
  }
  const builder = new VocabularyBuilder(all, pieces.length), bytes = largeBytes(longest);
  pieces.forEach((piece, id) => builder.add(bytes, 0, encoder.encodeInto(piece, bytes).written, id));
  return builder.finish();
}

export class Vocabulary {
  /** Two ids of one piece, which nobody should have. */
  readonly repeated: [number, number] | undefined;
  /** 1 + id, or 0: by hash, the next one where another is there; a power of two, a quarter of it empty. */
  readonly #table: Uint32Array;
  /** A piece that is looked for, and one byte more than the longest has. */
  readonly #wanted: Uint8Array;
  /** What was changed afterwards; undefined: was taken out. */
  readonly #changed = new Map<string, number | undefined>();

  /**
   * @param bytes pieces in UTF-8
   * @param begins where the piece of an id begins in them, and 1; 0: there is none
   * @param ends where it ends
   * @param count ids reach to this, less one
   */
  constructor(private readonly bytes: Uint8Array, private readonly begins: Uint32Array, private readonly ends: Uint32Array, readonly count: number) {
    let longest = 0, pieces = 0, size = 16;
    for (let id = 0; id < count; id++) {
      longest = Math.max(longest, 1 + ends[id]! - begins[id]!);
      if (begins[id]! > 0) pieces++;
    }
    while (3 * size < 4 * pieces) size *= 2;
    this.#wanted = new Uint8Array(longest + 1);
    this.#table = largeNumbers(size);
    for (let id = 0; id < count; id++) {
      if (begins[id] === 0) continue;
      const slot = this.#slot(bytes, begins[id]! - 1, ends[id]!), before = this.#table[slot]!;
      if (before > 0) this.repeated = [before - 1, id];
      this.#table[slot] = 1 + id;
    }
  }

  /** The id of a piece; undefined where it is none. */
  get(piece: string): number | undefined {
    return this.#changed.size > 0 && this.#changed.has(piece) ? this.#changed.get(piece) : this.original(piece);
  }

  has(piece: string): boolean { return this.get(piece) !== undefined; }
  set(piece: string, id: number): void { this.#changed.set(piece, id); }
  delete(piece: string): void { this.#changed.set(piece, undefined); }

  /** As it was before any change. */
  original(piece: string): number | undefined {
    const { read, written } = encoder.encodeInto(piece, this.#wanted);
    return read < piece.length ? undefined : this.find(this.#wanted, 0, written);
  }

  /** The same for UTF-8 in `source`. */
  find(source: Uint8Array, begin: number, end: number): number | undefined {
    const found = this.#table[this.#slot(source, begin, end)]!;
    return found === 0 ? undefined : found - 1;
  }

  /** The piece of an id, as it was before any change. */
  piece(id: number): string | undefined {
    return id < this.count && this.begins[id]! > 0 ? decoder.decode(this.bytes.subarray(this.begins[id]! - 1, this.ends[id])) : undefined;
  }

  /** All as they were before any change. */
  *pieces(): Generator<string> {
    for (let id = 0; id < this.count; id++) if (this.begins[id]! > 0) yield this.piece(id)!;
  }

  /** Where in the table a piece is, or would be. */
  #slot(source: Uint8Array, begin: number, end: number): number {
    let hash = 0x811c9dc5; // FNV-1a
    for (let i = begin; i < end; i++) hash = Math.imul(hash ^ source[i]!, 0x01000193);
    const mask = this.#table.length - 1;
    let slot = (hash ^ hash >>> 15) & mask;
    for (let step = 0; step < MAX_STEPS; step++, slot = slot + 1 & mask) {
      const found = this.#table[slot]!;
      if (found === 0 || this.#equals(found - 1, source, begin, end)) return slot;
    }
    throw new Error('its pieces were chosen to be slow to find');
  }

  #equals(id: number, source: Uint8Array, begin: number, end: number): boolean {
    const from = this.begins[id]! - 1;
    if (this.ends[id]! - from !== end - begin) return false;
    for (let i = begin, j = from; i < end; i++, j++) if (source[i] !== this.bytes[j]) return false;
    return true;
  }
}

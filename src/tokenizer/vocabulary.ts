/**
 * Pieces and their ids in flat arrays. A map from strings takes three times as much, and of making one a heap of garbage is
 * left: a page cannot have it collected before its weights come.
 */
import { largeBytes } from '../platform/platform.js';

/** Ids are below this. */
export const MAX_ID = 2 ** 24;
/** Entries looked at for one piece; of pieces that nobody has chosen for that, it takes 40 at most. */
const MAX_STEPS = 1000;

const encoder = new TextEncoder(), decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** Takes pieces one after the other. */
export class VocabularyBuilder {
  private readonly bytes: Uint8Array;
  private readonly ends: Uint32Array;
  private readonly ids: Uint32Array;
  private entries = 0;
  private at = 0;

  /** @param mostBytes of all pieces @param mostEntries room that is not used takes addresses only */
  constructor(mostBytes: number, mostEntries: number) {
    this.bytes = largeBytes(mostBytes);
    this.ends = largeNumbers(mostEntries);
    this.ids = largeNumbers(mostEntries);
  }

  /** A piece: UTF-8 in `source` from `begin` to `end`. The last of equal ones counts. */
  add(source: Uint8Array, begin: number, end: number, id: number): void {
    for (let i = begin; i < end; i++) this.bytes[this.at++] = source[i]!;
    this.ends[this.entries] = this.at;
    this.ids[this.entries++] = id;
  }

  finish(): Vocabulary { return new Vocabulary(this.bytes, this.ends.subarray(0, this.entries), this.ids.subarray(0, this.entries)); }
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

const largeNumbers = (length: number) => new Uint32Array(largeBytes(4 * length).buffer);

export class Vocabulary {
  /** Ids reach to this, less one. */
  readonly count: number;
  /** The last two ids of one piece. */
  readonly repeated: [number, number] | undefined;
  /** 1 + entry, or 0: by hash, the next one where another is there; a power of two, at least half empty. */
  readonly #table: Uint32Array;
  /** 1 + entry, or 0: by id. */
  readonly #byId: Uint32Array;
  /** A piece that is looked for, and one byte more than the longest has. */
  readonly #wanted: Uint8Array;
  /** What was changed afterwards; undefined: was taken out. */
  readonly #changed = new Map<string, number | undefined>();

  /** @param bytes pieces in UTF-8, one after the other @param ends of the entries in them @param ids of the entries */
  constructor(private readonly bytes: Uint8Array, private readonly ends: Uint32Array, private readonly ids: Uint32Array) {
    let count = 0, longest = 0, size = 16;
    for (let entry = 0; entry < ids.length; entry++) {
      count = Math.max(count, ids[entry]! + 1);
      longest = Math.max(longest, ends[entry]! - this.#begin(entry));
    }
    while (size < 2 * ids.length) size *= 2;
    this.count = count;
    this.#wanted = new Uint8Array(longest + 1);
    this.#table = largeNumbers(size);
    this.#byId = largeNumbers(count);
    for (let entry = 0; entry < ids.length; entry++) {
      const slot = this.#slot(bytes, this.#begin(entry), ends[entry]!), before = this.#table[slot]!;
      if (before > 0) this.repeated = [ids[before - 1]!, ids[entry]!];
      this.#table[slot] = entry + 1;
      this.#byId[ids[entry]!] = entry + 1;
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
    return found === 0 ? undefined : this.ids[found - 1];
  }

  /** The piece of an id, as it was before any change. */
  piece(id: number): string | undefined {
    const found = this.#byId[id];
    return found ? decoder.decode(this.bytes.subarray(this.#begin(found - 1), this.ends[found - 1])) : undefined;
  }

  /** All as they were before any change. */
  *pieces(): Generator<string> {
    for (let id = 0; id < this.count; id++) if (this.#byId[id]) yield this.piece(id)!;
  }

  #begin(entry: number): number { return entry === 0 ? 0 : this.ends[entry - 1]!; }

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

  #equals(entry: number, source: Uint8Array, begin: number, end: number): boolean {
    const from = this.#begin(entry);
    if (this.ends[entry]! - from !== end - begin) return false;
    for (let i = begin, j = from; i < end; i++, j++) if (source[i] !== this.bytes[j]) return false;
    return true;
  }
}

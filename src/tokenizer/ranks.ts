/** Ranks of merges, 12 bytes each: a map from strings takes six times that, and vocabularies have up to half a million. */
import { largeBytes } from '../platform/platform.js';
import { MAX_ID, type Vocabulary } from './vocabulary.js';

/** Ids, and numbers for parts that are in no vocabulary, are below this. */
const PARTS = 2 * MAX_ID;
/** Where a merge was that counts no longer. */
const FORGOTTEN = 2 ** 32 - 1;

/** Takes merges in the order of their ranks. */
export class RanksBuilder {
  private readonly pairs: Float64Array;
  private length = 0;
  /** Parts that are in no vocabulary. */
  private readonly others = new Map<string, number>();

  /** @param most merges: room that is not used takes addresses only */
  constructor(private readonly vocabulary: Vocabulary, most: number) {
    this.pairs = new Float64Array(largeBytes(8 * most).buffer);
  }

  /** Both parts: UTF-8 in `source`. */
  add(source: Uint8Array, leftBegin: number, leftEnd: number, rightBegin: number, rightEnd: number): void {
    this.pairs[this.length++] = this.part(source, leftBegin, leftEnd) * PARTS + this.part(source, rightBegin, rightEnd);
  }

  finish(): Ranks { return new Ranks(this.vocabulary, this.pairs.subarray(0, this.length), this.others); }

  private part(source: Uint8Array, begin: number, end: number): number {
    const id = this.vocabulary.find(source, begin, end);
    if (id !== undefined) return id;
    const text = new TextDecoder().decode(source.subarray(begin, end)), known = this.others.get(text) ?? MAX_ID + this.others.size;
    this.others.set(text, known);
    return known;
  }
}

export class Ranks {
  /** Left part * PARTS + right part, sorted. */
  readonly #pairs: Float64Array;
  readonly #ranks: Uint32Array;

  /** @param pairs in the order of their ranks; of equal ones the last counts */
  constructor(private readonly vocabulary: Vocabulary, pairs: Float64Array, private readonly others: ReadonlyMap<string, number>) {
    this.#pairs = Float64Array.from(pairs).sort();
    this.#ranks = new Uint32Array(pairs.length);
    for (let rank = 0; rank < pairs.length; rank++) this.#ranks[this.#find(pairs[rank]!)] = rank;
  }

  /** Undefined where there is no such merge. */
  of(left: string, right: string): number | undefined {
    const at = this.#at(left, right);
    return at === undefined || this.#ranks[at] === FORGOTTEN ? undefined : this.#ranks[at];
  }

  /** From now on there is no such merge. */
  forget(left: string, right: string): void {
    const at = this.#at(left, right);
    if (at !== undefined) this.#ranks[at] = FORGOTTEN;
  }

  #at(left: string, right: string): number | undefined {
    const leftPart = this.#part(left), rightPart = this.#part(right);
    if (leftPart === undefined || rightPart === undefined) return undefined;
    const pair = leftPart * PARTS + rightPart, at = this.#find(pair);
    return this.#pairs[at] === pair ? at : undefined;
  }

  #part(text: string): number | undefined { return this.vocabulary.original(text) ?? this.others.get(text); }

  /** The first place whose pair is not smaller. */
  #find(pair: number): number {
    let low = 0, high = this.#pairs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#pairs[middle]! < pair) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Ranks of merges, 12 bytes each: a map from strings takes six times that, and vocabularies have up to half a million. */
import { largeBytes } from '../platform/platform.js';
import { MAX_ID, type Vocabulary } from './vocabulary.js';

/** Ids, and numbers for parts that are in no vocabulary, are below this. */
const PARTS = 2 * MAX_ID;

export class Ranks {
  /** Left part * PARTS + right part: in the order of ranks, then sorted. */
  #pairs: Float64Array;
  #ranks = new Uint32Array(0);
  #length = 0;
  /** Numbers of parts that are in no vocabulary. */
  readonly #others = new Map<string, number>();

  /** @param most merges: room that is not used takes addresses only */
  constructor(private readonly vocabulary: Vocabulary, most: number) {
    this.#pairs = new Float64Array(largeBytes(8 * most).buffer);
  }

  /** The merge of the next rank: both parts in UTF-8 in `source`. Of equal merges the last counts. */
  add(source: Uint8Array, leftBegin: number, leftEnd: number, rightBegin: number, rightEnd: number): void {
    const part = (begin: number, end: number) => this.vocabulary.find(source, begin, end) ?? this.#other(new TextDecoder().decode(source.subarray(begin, end)));
    this.#pairs[this.#length++] = part(leftBegin, leftEnd) * PARTS + part(rightBegin, rightEnd);
  }

  /** Comes behind the last one. */
  finish(): this {
    const pairs = this.#pairs.subarray(0, this.#length);
    this.#pairs = pairs.slice().sort();
    this.#ranks = new Uint32Array(largeBytes(4 * pairs.length).buffer);
    for (let rank = 0; rank < pairs.length; rank++) this.#ranks[this.#find(pairs[rank]!)] = rank;
    return this;
  }

  /** Undefined where there is no such merge. */
  of(left: string, right: string): number | undefined {
    const leftPart = this.#part(left), rightPart = this.#part(right);
    if (leftPart === undefined || rightPart === undefined) return undefined;
    const pair = leftPart * PARTS + rightPart, at = this.#find(pair);
    return this.#pairs[at] === pair ? this.#ranks[at] : undefined;
  }

  #part(text: string): number | undefined { return this.vocabulary.original(text) ?? this.#others.get(text); }

  #other(text: string): number {
    if (!this.#others.has(text)) this.#others.set(text, MAX_ID + this.#others.size);
    return this.#others.get(text)!;
  }

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

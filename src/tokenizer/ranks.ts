/** Ranks of merges, 12 bytes each: a map from strings takes six times that, and vocabularies have up to half a million. */

/** Ids are below this. */
const IDS = 2 ** 25;

function halves(merge: string): [string, string] {
  const cut = merge.indexOf(' ');
  return cut < 0 ? [merge, ''] : [merge.slice(0, cut), merge.slice(cut + 1)];
}

export class Ranks {
  /** Left id * IDS + right id, sorted. */
  readonly #pairs: Float64Array;
  readonly #ranks: Uint32Array;
  /** Ids of parts that are in no vocabulary. */
  readonly #others = new Map<string, number>();

  /** @param merges pairs, or both parts with a blank between; of equal ones the last counts */
  constructor(private readonly ids: ReadonlyMap<string, number>, merges: readonly (string | readonly [string, string])[]) {
    const pairs = new Float64Array(merges.length);
    merges.forEach((merge, rank) => {
      const [left, right] = typeof merge === 'string' ? halves(merge) : merge;
      pairs[rank] = this.#idOf(left) * IDS + this.#idOf(right);
    });
    this.#pairs = pairs.slice().sort();
    this.#ranks = new Uint32Array(pairs.length);
    pairs.forEach((pair, rank) => { this.#ranks[this.#find(pair)] = rank; });
  }

  /** Undefined where there is no such merge. */
  of(left: string, right: string): number | undefined {
    const leftId = this.ids.get(left) ?? this.#others.get(left), rightId = this.ids.get(right) ?? this.#others.get(right);
    if (leftId === undefined || rightId === undefined) return undefined;
    const pair = leftId * IDS + rightId, at = this.#find(pair);
    return this.#pairs[at] === pair ? this.#ranks[at] : undefined;
  }

  #idOf(part: string): number {
    const known = this.ids.get(part) ?? this.#others.get(part);
    if (known !== undefined) return known;
    const id = IDS / 2 + this.#others.size;
    this.#others.set(part, id);
    return id;
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

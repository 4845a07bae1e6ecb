/** Lets text through up to the first stop string; holds back an ending that may become one. */
export class StopFilter {
  readonly #stops: readonly string[];
  #held = '';

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** `text` may be shown; once `stopped`, nothing follows. */
  push(text: string): { text: string; stopped: boolean } {
    const all = this.#held + text;
    const hits = this.#stops.map(stop => all.indexOf(stop)).filter(at => at >= 0);
    if (hits.length > 0) {
      this.#held = '';
      return { text: all.slice(0, Math.min(...hits)), stopped: true };
    }
    const keep = all.length - this.#partial(all);
    this.#held = all.slice(keep);
    return { text: all.slice(0, keep), stopped: false };
  }

  /** What was held back, when no more text comes. */
  end(): string {
    const rest = this.#held;
    this.#held = '';
    return rest;
  }

  /** Length of the longest ending of `text` that begins a stop string. */
  #partial(text: string): number {
    const longest = Math.max(0, ...this.#stops.map(stop => stop.length - 1));
    for (let length = Math.min(longest, text.length); length > 0; length--) {
      const ending = text.slice(-length);
      if (this.#stops.some(stop => stop.startsWith(ending))) return length;
    }
    return 0;
  }
}

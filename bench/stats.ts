/** Figures of repetitions that took turns: round i of one contestant ran beside round i of every other. */

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Half the distance from the least to the largest, as a share of the median. */
export function spread(values: readonly number[]): number {
  return (Math.max(...values) - Math.min(...values)) / median(values) / 2;
}

/** Rates by round; a contestant may sit rounds out. */
export type Rounds = (number | null)[];

export const present = (rounds: Rounds): number[] => rounds.filter(value => value !== null);

/** Median over the rounds of a / b: machines drift, ratios within a round do not. Null when they share no round. */
export function ratio(a: Rounds, b: Rounds): number | null {
  const both = a.flatMap((value, i) => value !== null && b[i] != null ? [value / b[i]] : []);
  return both.length > 0 ? median(both) : null;
}

/** A machine whose figures differ more than this from round to round is busy with something else. */
export const NOISY = 0.25;

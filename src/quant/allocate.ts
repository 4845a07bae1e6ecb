/** Which matrices get more bits. */

export interface Candidate { name: string; weights: number; /** Nats lost at 2 bits. */ cost: number }

/** How much smaller the error is with one bit more, and how few and many bits a matrix may have. */
const PER_BIT = 1 / 4.3;
const LEAST = 2, MOST = 4;

/**
 * Bits of each matrix, so that there are at most `mean` bits a weight: starting from the fewest, the matrix that gains most for
 * its weights gets one more, as long as there is room.
 */
export function allocate(candidates: readonly Candidate[], mean: number): Map<string, number> {
  const bits = new Map(candidates.map(({ name }) => [name, LEAST]));
  let room = (mean - LEAST) * candidates.reduce((sum, { weights }) => sum + weights, 0);
  const costAt = ({ cost }: Candidate, n: number) => cost * PER_BIT ** (n - LEAST);
  for (;;) {
    let best: Candidate | undefined, most = 0;
    for (const one of candidates) {
      const n = bits.get(one.name)!, gain = (costAt(one, n) - costAt(one, n + 1)) / one.weights;
      if (n < MOST && one.weights <= room && gain > most) [best, most] = [one, gain];
    }
    if (!best) return bits;
    bits.set(best.name, bits.get(best.name)! + 1);
    room -= best.weights;
  }
}

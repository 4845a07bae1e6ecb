/**
 * SentencePiece's BPE has scored pieces, Hugging Face's has ranked merges. Both merge neighbours into the best piece,
 * the leftmost first, when pairs are ranked by the score of their result; among equal scores (runs of spaces in Llama 2
 * share one) "leftmost first" grows the left piece, so longer results and longer left halves rank first.
 */

/** Of what merges make; control and byte pieces are no results of merges, so text never turns into them. */
export interface ScoredPiece { text: string; score: number }

/** Longer pieces make no sense; all cuts of a piece are tried, so length costs time. Bytes. */
export const LONGEST_PIECE = 256;

/** All pairs of pieces that make a piece, best first; as texts with a blank between where no piece has one: lists take memory. */
export function rankedMerges(pieces: ScoredPiece[]): string[] | [string, string][] {
  const known = new Set(pieces.map(({ text }) => text));
  const merges: { left: string; right: string; score: number }[] = [];
  for (const { text, score } of pieces) {
    for (let cut = 1; cut < text.length; cut++) {
      const left = text.slice(0, cut), right = text.slice(cut);
      if (known.has(left) && known.has(right)) merges.push({ left, right, score });
    }
  }
  merges.sort((a, b) => b.score - a.score || b.left.length + b.right.length - a.left.length - a.right.length || b.left.length - a.left.length);
  return pieces.some(({ text }) => text.includes(' ')) ? merges.map(({ left, right }): [string, string] => [left, right]) : merges.map(({ left, right }) => `${left} ${right}`);
}

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
  const known = new Set(pieces.map(({ text }) => text)), hasBlank = pieces.some(({ text }) => text.includes(' '));
  const pairs: [string, string][] = [], texts: string[] = [];
  // Pieces are sorted, not merges, of which there are twice as many: those of one piece follow from its cuts.
  const best = [...pieces].sort((a, b) => b.score - a.score || b.text.length - a.text.length);
  for (let begin = 0, end = 1; begin < best.length; begin = end++) {
    const { score, text: { length } } = best[begin]!;
    while (end < best.length && best[end]!.score === score && best[end]!.text.length === length) end++;
    for (let cut = length - 1; cut > 0; cut--) {
      for (let i = begin; i < end; i++) {
        const { text } = best[i]!, right = text.slice(cut);
        // The end of a word is a piece less often than its beginning.
        if (!known.has(right)) continue;
        const left = text.slice(0, cut);
        if (!known.has(left)) continue;
        if (hasBlank) pairs.push([left, right]);
        else texts.push(`${left} ${right}`);
      }
    }
  }
  return hasBlank ? pairs : texts;
}

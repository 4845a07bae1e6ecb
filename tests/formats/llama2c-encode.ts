/** llama2.c's encoder, written down plainly from its source: the oracle of the tokenizer tests. */

export interface Vocabulary { pieces: string[]; scores: number[]; ids: Map<string, number> }

export function readVocabulary(file: Uint8Array, size: number): Vocabulary {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const pieces: string[] = [], scores: number[] = [];
  for (let at = 4, id = 0; id < size; id++) {
    const length = view.getUint32(at + 4, true);
    scores.push(view.getFloat32(at, true));
    pieces.push(new TextDecoder('utf-8', { ignoreBOM: true }).decode(file.subarray(at + 8, at + 8 + length)));
    at += 8 + length;
  }
  return { pieces, scores, ids: new Map(pieces.map((piece, id) => [piece, id])) };
}

/** Ids with BOS. */
export function encode({ pieces, scores, ids }: Vocabulary, text: string): number[] {
  const tokens: number[] = [1];
  if (text !== '') tokens.push(ids.get(' ')!);
  for (const char of text) {
    const id = ids.get(char);
    if (id !== undefined) tokens.push(id);
    else for (const byte of new TextEncoder().encode(char)) tokens.push(byte + 3);
  }
  for (;;) {
    let best = -1e10, bestAt = -1, bestId = -1;
    for (let i = 0; i + 1 < tokens.length; i++) {
      const id = ids.get(pieces[tokens[i]!]! + pieces[tokens[i + 1]!]!);
      if (id !== undefined && scores[id]! > best) [best, bestAt, bestId] = [scores[id]!, i, id];
    }
    if (bestAt < 0) return tokens;
    tokens.splice(bestAt, 2, bestId);
  }
}

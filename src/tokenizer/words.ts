/** The library, faster on long texts: their words repeat, and it remembers too few of them. */
import type { Tokenizer as Library } from '@huggingface/tokenizers';

/** Words remembered: how many, and how long. */
const MAX_WORDS = 65536, LONGEST_WORD = 64;

/** @param sections how many sections of the text come before the one that is encoded */
export function rememberWords(library: Library, sections: () => number): void {
  const { model, pre_tokenizer: cut } = library;
  // Each section is a text to the library; some word marks belong to the first one only.
  if (cut) library.pre_tokenizer = ((text: string) => cut(text, { section_index: sections() })) as typeof cut;
  if (!model || model.fuse_unk) return;
  const encode = model.encode.bind(model), known = new Map<string, string[]>();
  model.encode = words => {
    const all: string[] = [];
    for (const word of words) {
      let pieces = known.get(word);
      if (!pieces) {
        pieces = encode([word]);
        if (known.size === MAX_WORDS) known.clear();
        if (word.length <= LONGEST_WORD) known.set(word, pieces);
      }
      for (const piece of pieces) all.push(piece);
    }
    return all;
  };
}

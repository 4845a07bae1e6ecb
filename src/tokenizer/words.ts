/**
 * The library, faster on long texts: what it does to a word it does once, because words repeat. Spelling in the alphabet
 * of byte-level BPE is left to this file for the same reason.
 */
import { Tokenizer as Library } from '@huggingface/tokenizers';
import { spellBytes, type TokenizerJson } from './pieces.js';
import type { Vocabulary } from './vocabulary.js';

/** Words remembered: how many, and how long. */
const MAX_WORDS = 65536, LONGEST_WORD = 64;
/** GPT-2's words, where a byte-level step cuts by itself. */
const GPT2_WORDS = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

type RankOf = (left: string, right: string) => number | undefined;
interface Step { type?: string; pretokenizers?: Step[]; add_prefix_space?: boolean; use_regex?: boolean }

/**
 * @param vocabulary belongs to the library from now on
 * @param rankOf of the merge of two pieces; undefined where there is none
 * @param sections how many sections of the text come before the one that is encoded
 */
export function createLibrary(json: TokenizerJson, vocabulary: Vocabulary, rankOf: RankOf, sections: () => number): Library {
  const { steps, spells } = withoutSpelling(json.pre_tokenizer as Step | null);
  const { unk_token: unknown } = json.model, unknownId = vocabulary.get(unknown ?? '');
  // It would make a map of the vocabulary, which is all that encoding needs, and is there already.
  const vocab = unknownId === undefined ? {} : { [unknown!]: unknownId };
  const library = new Library({ ...json, pre_tokenizer: steps, model: { ...json.model, merges: [], vocab } }, {});
  const { pre_tokenizer: cut, model } = library;
  // Each section is a text to the library; some word marks belong to the first one only.
  if (cut) library.pre_tokenizer = ((text: string) => cut(text, { section_index: sections() })) as typeof cut;
  if (!model) throw new Error('it has no model');
  // Its own additions count.
  for (const [piece, id] of model.tokens_to_ids) vocabulary.set(piece, id);
  model.tokens_to_ids = vocabulary as unknown as Map<string, number>; // all that it asks of one from here on
  model.vocab = [];
  useRanks(model, rankOf);

  const encode = model.encode.bind(model), known = new Map<string, string[]>();
  const spell = spells ? (words: string[]) => words.map(spellBytes) : (words: string[]) => words;
  model.encode = words => {
    if (model.fuse_unk) return encode(spell(words));
    const all: string[] = [];
    for (const word of words) {
      let pieces = known.get(word);
      if (!pieces) {
        pieces = encode(spell([word]));
        if (known.size === MAX_WORDS) known.clear();
        if (word.length <= LONGEST_WORD) known.set(word, pieces);
      }
      for (const piece of pieces) all.push(piece);
    }
    return all;
  };
  return library;
}

/** The steps that cut a text into words, without a last one that spells them in bytes. */
function withoutSpelling(step: Step | null): { steps: object | null; spells: boolean } {
  const all = step?.type === 'Sequence' ? step.pretokenizers ?? [] : step ? [step] : [], last = all.at(-1);
  if (last?.type !== 'ByteLevel' || last.add_prefix_space) return { steps: step, spells: false };
  const words = last.use_regex === false ? [] : [{ type: 'Split', pattern: { Regex: GPT2_WORDS }, behavior: 'Isolated', invert: false }];
  const pretokenizers = [...all.slice(0, -1), ...words];
  return { steps: pretokenizers.length === 0 ? null : { type: 'Sequence', pretokenizers }, spells: true };
}

/** Gives the library's BPE its merges in a form that is quicker than its own, and smaller. */
function useRanks(model: object, rankOf: RankOf): void {
  const bpe = model as { add_node?: (queue: { push(node: object): void }, node: { token: string; next: { token: string }; bias: number; score: number }) => void };
  if (!bpe.add_node) return;
  bpe.add_node = (queue, node) => {
    const rank = rankOf(node.token, node.next.token);
    if (rank === undefined) return;
    // The fraction prefers what comes first.
    node.score = rank + node.bias;
    queue.push(node);
  };
}

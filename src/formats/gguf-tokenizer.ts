/** GGUF vocabularies -> Hugging Face's tokenizer.json, giving the ids that llama.cpp gives. */
import { BadModelFileError, UnsupportedFormatError } from '../errors.js';
import { vocabularyOf } from '../tokenizer/vocabulary.js';
import { shown } from './bytes.js';
import { ggufChat } from './chat.js';
import type { Metadata } from './gguf.js';
import { LONGEST_PIECE, rankedMerges, type ScoredPiece } from './sentencepiece.js';
import { writeTokenizerJson, type Merge } from './tokenizer-json.js';
import type { ChatFormat } from './types.js';

/** tokenizer.ggml.token_type */
const UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, BYTE = 6;

const gpt2Words = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)";
const llama3Words = (digits: string) =>
  `'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

/**
 * tokenizer.ggml.pre -> what cuts a text into words, one after the other; between matches is a word too.
 * `gpt2`: GPT-2's words follow, which the library's byte level step finds by itself.
 */
const wordPatterns: Record<string, { patterns: string[]; gpt2?: true }> = {
  'gpt-2': { patterns: [], gpt2: true },
  'llama-bpe': { patterns: [llama3Words('\\p{N}{1,3}')] },
  qwen2: { patterns: [llama3Words('\\p{N}')] },
  smollm: { patterns: ['\\p{N}'], gpt2: true },
  default: { patterns: ['[\\p{P}\\$\\+<=>\\^~\\|]+', gpt2Words, '\\p{N}+', '[0-9][0-9][0-9]'] },
};

interface Vocabulary { tokens: string[]; types: number[]; path: string }

export interface GgufTokenizer {
  /** Text of a tokenizer.json. */
  tokenizerJson: Uint8Array;
  /** Tokens. */
  size: number;
  bosId: number | null;
  eosIds: number[];
  addBos: boolean;
  chat: ChatFormat | undefined;
}

export function readGgufTokenizer(metadata: Metadata, path: string): GgufTokenizer {
  const model = metadata.string('tokenizer.ggml.model'), pre = metadata.string('tokenizer.ggml.pre') ?? 'default';
  const tokens = metadata.strings('tokenizer.ggml.tokens');
  if (!tokens) throw new BadModelFileError(path, 'tokenizer.ggml.tokens', 'is missing');
  const types = sameLength(metadata, 'tokenizer.ggml.token_type', tokens, path) ?? tokens.map(() => 1);
  const vocabulary = { tokens, types, path };
  const sentencePiece = model === 'llama';
  if (!sentencePiece && model !== 'gpt2') {
    throw new UnsupportedFormatError(path, 'tokenizer.ggml.model', `${shown(model ?? null)} is not supported`, 'Vocabularies of type "gpt2" (byte-level BPE) and "llama" (SentencePiece BPE) are.');
  }
  const tokenizerJson = sentencePiece ? sentencePieceJson(metadata, vocabulary) : byteLevelJson(metadata, pre, vocabulary);
  const id = (name: string) => metadata.number(`tokenizer.ggml.${name}_token_id`);
  const bosId = id('bos') ?? (sentencePiece ? 1 : null);
  return {
    tokenizerJson,
    size: tokens.length,
    bosId,
    eosIds: [...new Set([id('eos') ?? (sentencePiece ? 2 : undefined), id('eot'), id('eom')].filter(one => one !== undefined))],
    // llama.cpp's defaults.
    addBos: bosId !== null && (metadata.boolean('tokenizer.ggml.add_bos_token') ?? (sentencePiece || pre === 'llama-bpe')),
    chat: ggufChat(metadata, id => tokens[id]),
  };
}

function byteLevelJson(metadata: Metadata, pre: string, vocabulary: Vocabulary): Uint8Array {
  const { path } = vocabulary;
  const words = Object.hasOwn(wordPatterns, pre) ? wordPatterns[pre]! : undefined;
  if (!words) {
    throw new UnsupportedFormatError(path, 'tokenizer.ggml.pre', `${shown(pre)} is not known: words would be cut in other places`, `Known are ${Object.keys(wordPatterns).join(', ')}.`);
  }
  const merges = metadata.strings('tokenizer.ggml.merges');
  if (!merges) throw new BadModelFileError(path, 'tokenizer.ggml.merges', 'is missing');
  return jsonOf(vocabulary, {
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        ...words.patterns.map(Regex => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false })),
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: words.gpt2 ?? false },
      ],
    },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { byte_fallback: false, unk_token: null, ignore_merges: pre === 'llama-bpe' },
  }, merges.map((merge, i) => pairOf(merge, i, path)));
}

/** A pair is written as such only where a blank in it could be taken for the one between: lists take memory. */
function pairOf(merge: string, i: number, path: string): Merge {
  const cut = merge.indexOf(' ', 1);
  if (cut < 0 || cut === merge.length - 1) throw new BadModelFileError(path, 'tokenizer.ggml.merges', `${i}: ${shown(merge)} is no pair`);
  return merge.indexOf(' ') === cut && merge.lastIndexOf(' ') === cut ? merge : [merge.slice(0, cut), merge.slice(cut + 1)];
}

function sentencePieceJson(metadata: Metadata, vocabulary: Vocabulary): Uint8Array {
  const { tokens, types, path } = vocabulary;
  const scores = sameLength(metadata, 'tokenizer.ggml.scores', tokens, path);
  if (!scores) throw new BadModelFileError(path, 'tokenizer.ggml.scores', 'is missing');
  const pieces: ScoredPiece[] = [];
  tokens.forEach((text, id) => {
    const score = scores[id]!;
    if (Number.isNaN(score)) throw new BadModelFileError(path, 'tokenizer.ggml.scores', `${id}: is not a number`);
    if (types[id] === BYTE) {
      if (!/^<0x[0-9A-F]{2}>$/.test(text)) throw new BadModelFileError(path, 'tokenizer.ggml.tokens', `${id}: ${shown(text)} is no byte`);
    } else if (types[id] !== UNKNOWN && types[id] !== CONTROL) {
      if (text.length > LONGEST_PIECE) throw new BadModelFileError(path, 'tokenizer.ggml.tokens', `${id}: a piece of ${text.length} characters, at most ${LONGEST_PIECE} make sense`);
      pieces.push({ text, score });
    }
  });
  const spaceFirst = metadata.boolean('tokenizer.ggml.add_space_prefix') ?? true;
  const mark = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const unknown = types.indexOf(UNKNOWN);
  return jsonOf(vocabulary, {
    normalizer: spaceFirst ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, mark] } : mark,
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' }, { type: 'ByteFallback' }, { type: 'Fuse' },
        ...(spaceFirst ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: { byte_fallback: true, unk_token: unknown < 0 ? null : tokens[unknown], ignore_merges: false },
  }, rankedMerges(pieces));
}

/** What both kinds have in common. Control tokens are special; what users defined is found in any text. */
function jsonOf({ tokens, types, path }: Vocabulary, { model, ...steps }: { model: object; [step: string]: unknown }, merges: readonly Merge[]): Uint8Array {
  const { repeated: [id, other] = [] } = vocabularyOf(tokens);
  if (id !== undefined) throw new BadModelFileError(path, 'tokenizer.ggml.tokens', `${other}: ${shown(tokens[id])} is token ${id} already`);
  const added = tokens.flatMap((content, id) => types[id] === CONTROL || types[id] === USER_DEFINED
    ? [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: types[id] === CONTROL }] : []);
  return writeTokenizerJson({
    version: '1.0', truncation: null, padding: null, added_tokens: added, ...steps, post_processor: null,
    model: { type: 'BPE', dropout: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, ...model },
  }, tokens, merges);
}

function sameLength(metadata: Metadata, key: string, tokens: string[], path: string): number[] | undefined {
  const count = metadata.count(key);
  if (count !== undefined && count !== tokens.length) throw new BadModelFileError(path, key, `${count} entries for ${tokens.length} tokens`);
  return metadata.numbers(key);
}

/** Text to ids and back, for one model: a library does the encoding, ids turn into bytes here. */
import { Tokenizer as Library } from '@huggingface/tokenizers';
import { BadArgumentError, BadModelFileError } from '../errors.js';
import type { ModelConfig } from '../formats/types.js';
import { readPieces, type Pieces, type TokenizerJson } from './pieces.js';
import { TextStream } from './text-stream.js';

/** Embeddings are padded to round numbers of rows; more unused ids than this share of them means another model's tokenizer. */
const MAX_UNUSED = 1 / 16;
/** Of words whose pieces are remembered: how many, and how long. */
const MAX_WORDS = 65536, LONGEST_WORD = 64;

export class Tokenizer {
  readonly #library: Library;
  readonly #pieces: Pieces;
  readonly #bosId: number | null;
  readonly #addBos: boolean;
  readonly #vocabSize: number;

  /**
   * @param bytes a `tokenizer.json`, spaces at its end allowed
   * @param file for messages
   * @throws BadModelFileError when it is not sound, or of another size than the model's vocabulary
   */
  constructor(bytes: Uint8Array, config: ModelConfig, file: string) {
    const bad = (problem: string, hint?: string) => new BadModelFileError(file, 'tokenizer', problem, hint);
    let json: TokenizerJson;
    try {
      json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as TokenizerJson;
      this.#pieces = readPieces(json);
      this.#library = new Library(withoutForgery(json), {});
      rememberWords(this.#library);
    } catch (cause) {
      throw bad(`is not a tokenizer.json that can be used: ${(cause as Error).message}`);
    }
    const used = this.#pieces.count;
    if (used > config.vocabSize || config.vocabSize - used > config.vocabSize * MAX_UNUSED) {
      throw bad(`has ${used} tokens, the model has ${config.vocabSize}`, 'Use the tokenizer that belongs to this model.');
    }
    this.#bosId = config.bosId;
    this.#addBos = config.addBos;
    this.#vocabSize = config.vocabSize;
  }

  /**
   * Ids of `text`. Text never becomes a special token, whatever it spells.
   * @param addBos whether the ids start with the model's BOS; left out: as the model wants it
   */
  encode(text: string, addBos = this.#addBos): number[] {
    if (typeof text !== 'string') throw new BadArgumentError('text', 'is not a string', 'Give text.');
    const ids = text === '' ? [] : this.#library.encode(text, { add_special_tokens: false }).ids;
    return addBos && this.#bosId !== null ? [this.#bosId, ...ids] : ids;
  }

  /** Text of `ids`, special tokens left out; bytes that are no UTF-8 become U+FFFD. */
  decode(ids: readonly number[]): string {
    const stream = this.stream(null);
    return ids.map(id => stream.push(id)).join('') + stream.end();
  }

  /** Text of ids that come one at a time after `previous` (null: at the start). */
  stream(previous: number | null): TextStream {
    const atStart = previous === null || previous === this.#bosId;
    return new TextStream(this.#pieces.bytes, this.#pieces.leadingSpace && atStart);
  }

  /** @throws BadArgumentError when `ids` is no list of ids of this model */
  check(ids: readonly number[], argument: string): void {
    if (!Array.isArray(ids)) throw new BadArgumentError(argument, 'is not an array of token ids', 'Text becomes ids with `tokenize`.');
    const at = ids.findIndex(id => !Number.isInteger(id) || id < 0 || id >= this.#vocabSize);
    if (at >= 0) throw new BadArgumentError(`${argument}[${at}]`, `${ids[at]} is not a token id`, `Ids are whole numbers from 0 to ${this.#vocabSize - 1}.`);
  }
}

/** Texts repeat their words; the library remembers too few of them for a long text. */
function rememberWords({ model }: Library): void {
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

/** The vocabulary without its special tokens (taken out of `json`: a copy is large), and without the merges that would spell one. */
function withoutForgery(json: TokenizerJson): object {
  const added = json.added_tokens ?? [];
  const special = new Set(added.filter(token => token.special).map(token => token.content));
  const { vocab, merges = [], unk_token: unknown } = json.model;
  const splitting = json.pre_tokenizer ?? splitWords(vocab);
  for (const piece of special) if (piece !== unknown) delete vocab[piece];
  return {
    ...json,
    normalizer: json.normalizer ?? null,
    pre_tokenizer: splitting,
    decoder: null,
    // BOS is this file's business.
    post_processor: null,
    added_tokens: added.filter(token => !token.special),
    model: {
      ...json.model,
      merges: merges.filter(merge => !special.has(typeof merge === 'string' ? merge.replace(' ', '') : merge.join(''))),
    },
  };
}

/**
 * A vocabulary without a pre-tokenizer (SentencePiece's) takes a text as one long word. Where no piece holds a space after
 * something else, no merge reaches across such a place, and cutting there gives the same ids many times faster.
 */
function splitWords(vocab: Record<string, number>): object | null {
  if (Object.keys(vocab).some(piece => /[^ ▁][ ▁]/.test(piece))) return null;
  return { type: 'Split', pattern: { Regex: '[ ▁]*[^ ▁]+' }, behavior: 'Isolated', invert: false };
}

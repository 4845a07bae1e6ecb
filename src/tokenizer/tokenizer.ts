/** Text to ids and back, for one model: a library does the encoding, special tokens and bytes are this file's business. */
import type { Tokenizer as Library } from '@huggingface/tokenizers';
import { BadArgumentError, BadModelFileError } from '../errors.js';
import { readTokenizerJson } from '../formats/tokenizer-json.js';
import type { ModelConfig } from '../formats/types.js';
import type { TokenizeOptions } from '../runtime/types.js';
import { AddedTokens, type Foreign } from './added-tokens.js';
import { checkPatterns } from './patterns.js';
import { readPieces, type Pieces } from './pieces.js';
import { TextStream } from './text-stream.js';
import { createLibrary } from './words.js';

/** Embeddings are padded to round numbers of rows; more unused ids than this share of them means another model's tokenizer. */
const MAX_UNUSED = 1 / 16;

export class Tokenizer {
  readonly #library: Library;
  readonly #pieces: Pieces;
  readonly #added: AddedTokens;
  readonly #bosId: number | null;
  readonly #addBos: boolean;
  readonly #vocabSize: number;
  /** Sections of the text before the one that the library sees. */
  #sections = 0;

  /**
   * @param bytes a `tokenizer.json`, spaces at its end allowed
   * @param file for messages
   * @param template of chats: what it writes is not for others to write
   * @throws BadModelFileError when it is not sound, or of another size than the model's vocabulary
   */
  constructor(bytes: Uint8Array, config: Pick<ModelConfig, 'vocabSize' | 'bosId' | 'addBos'>, file: string, template?: string) {
    const bad = (problem: string, hint?: string) => new BadModelFileError(file, 'tokenizer', problem, hint);
    const { json, vocabulary, ranks: readRanks } = readTokenizerJson(bytes, file, 'tokenizer'), ranks = readRanks();
    try {
      checkPatterns(json);
      this.#pieces = readPieces(json, vocabulary);
      this.#added = new AddedTokens(json, template);
      // A merge that would spell an added token is none: no text turns into one by another way.
      const rankOf = (left: string, right: string) => {
        const rank = ranks.of(left, right);
        return rank !== undefined && this.#added.has(left + right) ? undefined : rank;
      };
      this.#library = createLibrary(this.#added.withoutThem(json, vocabulary), vocabulary, rankOf, () => this.#sections);
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

  /** Ids of `text`. Unless `special` is set it never becomes a special token, whatever it spells. */
  encode(text: string, { addBos = this.#addBos, special = false }: { [K in keyof TokenizeOptions]: TokenizeOptions[K] | undefined } = {}): number[] {
    if (typeof text !== 'string') throw new BadArgumentError('text', 'is not a string', 'Give text.');
    return this.#withBos(this.#ids(this.#added.split(text, special)), addBos);
  }

  /**
   * Ids of a text that is partly foreign: guarded tokens are found where no character is foreign, all else is encoded as
   * if it were one text.
   */
  encodeMixed(text: string, foreign: Foreign): number[] {
    return this.#withBos(this.#ids(this.#added.split(text, true, foreign)), this.#addBos);
  }

  /** How tokens are written that nobody but the author of a chat template may write. */
  get guarded(): string[] {
    return this.#added.guarded;
  }

  /** The first added token in a text, as a list of none or one. */
  firstAdded(text: string, foreign: Foreign): number[] {
    for (const section of this.#added.split(text, true, foreign)) if (typeof section === 'number') return [section];
    return [];
  }

  #ids(sections: Iterable<string | number>): number[] {
    const ids: number[] = [];
    this.#sections = 0;
    for (const section of sections) {
      if (typeof section === 'number') ids.push(section);
      else if (section === '') continue;
      else for (const id of this.#library.encode(section, { add_special_tokens: false }).ids) ids.push(id);
      this.#sections++;
    }
    return ids;
  }

  #withBos(ids: number[], addBos: boolean): number[] {
    return addBos && this.#bosId !== null && ids[0] !== this.#bosId ? [this.#bosId, ...ids] : ids;
  }

  /** Text of `ids`, special tokens left out; bytes that are no UTF-8 become U+FFFD. */
  decode(ids: readonly number[]): string {
    const stream = this.stream(null);
    return ids.map(id => stream.push(id)).join('') + stream.end();
  }

  /** What each id stands for, by itself: special tokens as they are written, bytes that are no UTF-8 as U+FFFD. */
  pieces(ids: readonly number[]): string[] {
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    return ids.map(id => this.#added.content(id) ?? decoder.decode(this.#pieces.bytes(id)));
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

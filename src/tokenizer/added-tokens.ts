/**
 * Tokens that are added to a vocabulary: cut out of a text before it is normalised and merged. Special ones only where
 * the caller says so; the others (whoever made the vocabulary wanted them found) in any text.
 */
import type { TokenizerJson } from './pieces.js';
import type { Vocabulary } from './vocabulary.js';

interface AddedToken {
  id: number;
  content: string;
  special: boolean;
  /** Nobody but the author of a chat template may write it: special, or written by the template. */
  guarded: boolean;
  /** Takes the white space in front of it, behind it, away. */
  lstrip: boolean;
  rstrip: boolean;
}

/** Says whether a stretch of a text is partly somebody's who may not write guarded tokens. */
export type Foreign = (begin: number, end: number) => boolean;

export class AddedTokens {
  readonly #byContent = new Map<string, AddedToken>();
  readonly #byId = new Map<number, AddedToken>();
  /** The longest of the tokens that begin somewhere: of all of them, and of those that are not special. */
  readonly #any: RegExp | undefined;
  readonly #plain: RegExp | undefined;

  /** @param template of chats, if there is one */
  constructor({ added_tokens = [], normalizer }: TokenizerJson, template = '') {
    for (const { id, content, special = false, normalized = !special, lstrip = false, rstrip = false } of added_tokens) {
      // What is looked for in normalised text is the library's: words of SentencePiece among it.
      if (content === '' || (!special && ((normalized && normalizer) || content.includes('▁')))) continue;
      const token = { id, content, special, guarded: special || template.includes(content), lstrip, rstrip };
      this.#byContent.set(content, token);
      this.#byId.set(id, token);
    }
    const tokens = [...this.#byContent.values()];
    this.#any = alternatives(tokens);
    this.#plain = alternatives(tokens.filter(token => !token.special));
  }

  /** How guarded tokens are written. */
  get guarded(): string[] {
    return [...this.#byContent.values()].filter(token => token.guarded).map(token => token.content);
  }

  /** How the token is written. */
  content(id: number): string | undefined {
    return this.#byId.get(id)?.content;
  }

  /**
   * The text cut at these tokens: texts and ids.
   * @param special whether special tokens are looked for
   * @param foreign where they are not, nor any other that is guarded
   */
  *split(text: string, special: boolean, foreign: Foreign = () => false): Generator<string | number> {
    const pattern = special ? this.#any : this.#plain;
    let begin = 0, strip = false;
    const section = (end: number, next?: AddedToken) => {
      let part = text.slice(begin, end);
      if (strip) part = part.trimStart();
      return next?.lstrip ? part.trimEnd() : part;
    };
    if (pattern) {
      pattern.lastIndex = 0;
      for (let match: RegExpExecArray | null; (match = pattern.exec(text));) {
        const token = this.#byContent.get(match[0])!, end = pattern.lastIndex;
        if (token.guarded && foreign(match.index, end)) {
          pattern.lastIndex = match.index + 1;
          continue;
        }
        yield section(match.index, token);
        yield token.id;
        begin = end;
        strip = token.rstrip;
      }
    }
    yield section(text.length);
  }

  /** Whether text is one of them. */
  has(text: string): boolean {
    return this.#byContent.has(text);
  }

  /** What the library is to know: nothing of these tokens, which are taken out of `vocabulary`. */
  withoutThem(json: TokenizerJson, vocabulary: Vocabulary): TokenizerJson {
    const splitting = json.pre_tokenizer ?? splitWords(vocabulary);
    for (const piece of this.#byContent.keys()) if (piece !== json.model.unk_token) vocabulary.delete(piece);
    return {
      ...json,
      normalizer: json.normalizer ?? null,
      pre_tokenizer: splitting,
      decoder: null,
      // BOS is not the library's business.
      post_processor: null,
      added_tokens: (json.added_tokens ?? []).filter(token => !this.#byContent.has(token.content)),
    };
  }
}

/** Finds the longest of the tokens that begin at a place. */
function alternatives(tokens: AddedToken[]): RegExp | undefined {
  if (tokens.length === 0) return undefined;
  const contents = tokens.map(token => token.content).sort((a, b) => b.length - a.length);
  return new RegExp(contents.map(content => content.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')).join('|'), 'g');
}

/**
 * A vocabulary without a pre-tokenizer (SentencePiece's) takes a text as one long word. Where no piece holds a space after
 * something else, no merge reaches across such a place, and cutting there gives the same ids many times faster.
 */
function splitWords(vocabulary: Vocabulary): object | null {
  for (const piece of vocabulary.pieces()) if (/[^ \u2581][ \u2581]/.test(piece)) return null;
  return { type: 'Split', pattern: { Regex: '[ ▁]*[^ ▁]+' }, behavior: 'Isolated', invert: false };
}

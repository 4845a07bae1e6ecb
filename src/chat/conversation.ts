/**
 * Messages to the text that a model's chat template makes of them, with every character known by its author: the
 * template, or a message. Special tokens are the template's alone.
 *
 * The template runs a second time on messages in which each character that a special token could consist of is replaced
 * by a private one; where such a character comes out, a message wrote it. White space stays what it is, so that trimming
 * works; texts that the template's code looks for may stay readable (a second try). Either way the result, translated
 * back, must equal what the template makes of the plain messages.
 */
import { BadArgumentError, ChatTemplateError } from '../errors.js';
import type { ChatFormat } from '../formats/types.js';
import type { Foreign } from '../tokenizer/added-tokens.js';
import { JinjaTemplate, TemplateFault } from './bounded-jinja.js';

export interface ChatMessage {
  /** As the model's template knows it: 'system', 'user', 'assistant', often 'tool'. */
  role: string;
  content: string;
}

export type TemplateVariables = Record<string, string | number | boolean | null>;

/** A chat written out. */
export interface Conversation {
  text: string;
  foreign: Foreign;
}

/** Private-use characters of the Basic Multilingual Plane. */
const PRIVATE = { first: 0xe000, last: 0xf8ff };

export class ChatTemplate {
  readonly #template: JinjaTemplate;
  readonly #format: ChatFormat;
  readonly #tokens: readonly string[];
  readonly #path: string;

  /**
   * @param tokens what only the template may write
   * @param path of the model, for messages
   * @throws ChatTemplateError
   */
  constructor(format: ChatFormat, tokens: readonly string[], path: string) {
    this.#format = format;
    this.#tokens = tokens;
    this.#path = path;
    this.#template = this.#attempt(() => new JinjaTemplate(format.template));
  }

  /**
   * @param answer whether the text ends where the model's answer begins
   * @throws ChatTemplateError when the template fails, refuses the messages or takes them apart in a way that cannot be followed
   */
  write(messages: readonly ChatMessage[], answer: boolean, variables: TemplateVariables = {}): Conversation {
    const render = (rewrite: (content: string) => string) => this.#attempt(() => this.#template.render({
      ...this.#format.tokens, ...variables, add_generation_prompt: answer,
      messages: messages.map(({ role, content }) => ({ role, content: rewrite(content) })),
    }));
    const text = render(content => content);
    const alphabet = this.#alphabet(messages, variables);
    const hide = (content: string) => Array.from({ length: content.length }, (_, i) => alphabet.hidden.get(content[i]!) ?? content[i]).join('');
    const sought = this.#sought();
    let blind = '';
    for (const rewrite of [hide, (content: string) => sought ? content.split(sought).map((part, i) => i % 2 ? part : hide(part)).join('') : hide(content)]) {
      const written = render(rewrite);
      blind ||= written;
      if (alphabet.show(written) === text) return { text, foreign: (begin, end) => alphabet.isHidden(written, begin, end) };
    }
    // The template works on what messages say. Without a forged token there is nothing to tell apart.
    if (this.#count(text) === this.#count(blind)) return { text, foreign: () => false };
    throw this.#error('a message spells a special token, and the template rewrites messages', 'Take it out of the message.');
  }

  /** What comes after an assistant's message. */
  ending(): Conversation {
    const content = 'ok', { text, foreign } = this.write([{ role: 'user', content }, { role: 'assistant', content }], false);
    const at = text.lastIndexOf(content) + content.length;
    return { text: text.slice(at), foreign: (begin, end) => foreign(at + begin, at + end) };
  }

  /** A private character for each that messages and special tokens share, other than blanks. */
  #alphabet(messages: readonly ChatMessage[], variables: TemplateVariables) {
    const contents = new Set(messages.map(message => message.content).join('')), inTokens = new Set(this.#tokens.join(''));
    const taken = new Set([...contents, ...inTokens, this.#format.template, JSON.stringify(variables)].join(''));
    const hidden = new Map<string, string>(), shown = new Map<string, string>();
    let next = PRIVATE.first;
    for (const char of inTokens) {
      for (const unit of char.split('')) {
        if (/\s/.test(unit) || hidden.has(unit)) continue;
        while (taken.has(String.fromCharCode(next))) next++;
        if (next > PRIVATE.last) throw new BadArgumentError('messages', 'use all private characters of Unicode', 'Leave some of them out.');
        const letter = String.fromCharCode(next++);
        hidden.set(unit, letter);
        shown.set(letter, unit);
      }
    }
    return {
      hidden,
      show: (written: string) => written.replace(/[\ue000-\uf8ff]/g, letter => shown.get(letter) ?? letter),
      isHidden: (written: string, begin: number, end: number) => {
        for (let i = begin; i < end; i++) if (shown.has(written[i]!)) return true;
        return false;
      },
    };
  }

  /** Finds the texts that the template's code spells, but none that could be a part of a special token. */
  #sought(): RegExp | undefined {
    const literals = this.#template.literals.filter(literal => /\S\S/.test(literal) && !this.#tokens.some(token => token.includes(literal.trim()) || literal.includes(token)));
    if (literals.length === 0) return undefined;
    literals.sort((a, b) => b.length - a.length);
    return new RegExp(`(${literals.map(escapeRegExp).join('|')})`);
  }

  #count(text: string): number {
    return this.#tokens.length === 0 ? 0 : text.match(new RegExp(this.#tokens.map(escapeRegExp).join('|'), 'g'))?.length ?? 0;
  }

  #attempt<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (error instanceof TemplateFault) throw this.#error(error.message, 'Give messages as the model expects them, or use `generate` with a prompt of your own.');
      throw error;
    }
  }

  #error(problem: string, hint: string): ChatTemplateError {
    return new ChatTemplateError(this.#path, `its chat template: ${problem}`, hint);
  }
}

const escapeRegExp = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');

/** @throws BadArgumentError */
export function checkMessages(messages: unknown): ChatMessage[] {
  const bad = (at: string, problem: string) => new BadArgumentError(`messages${at}`, problem, 'Example: [{ role: \'user\', content: \'Hello\' }].');
  if (!Array.isArray(messages) || messages.length === 0) throw bad('', 'is no list of messages');
  return messages.map((message: unknown, i) => {
    if (typeof message !== 'object' || message === null) throw bad(`[${i}]`, 'is no object');
    const { role, content, ...rest } = message as Record<string, unknown>;
    // A role goes into the template as it is.
    if (typeof role !== 'string' || !/^[\w-]{1,64}$/.test(role)) throw bad(`[${i}].role`, 'is not a word');
    if (typeof content !== 'string') throw bad(`[${i}].content`, 'is not a string');
    for (const field of Object.keys(rest)) throw bad(`[${i}].${field}`, 'is not supported');
    return { role, content };
  });
}

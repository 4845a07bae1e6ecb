/** Chats of one model as token ids that fit into its context. */
import { BadArgumentError, ChatTemplateError, ContextFullError } from '../errors.js';
import type { ChatFormat } from '../formats/types.js';
import type { WireChatOptions } from '../runtime/types.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { ChatTemplate, checkMessages, type ChatMessage, type TemplateVariables } from './conversation.js';

/** Of the context: what is kept for an answer when turns are dropped, and in which steps they are. */
const STEP = 1 / 4;

export class ChatWriter {
  /** Ids that end an answer besides the model's own: what the template puts behind one. */
  readonly endIds: readonly number[];
  readonly #template: ChatTemplate;
  readonly #tokenizer: Tokenizer;

  /** @throws ChatTemplateError */
  constructor(format: ChatFormat, tokenizer: Tokenizer, path: string) {
    this.#tokenizer = tokenizer;
    this.#template = new ChatTemplate(format, tokenizer.guarded, path);
    this.endIds = this.#findEnd();
  }

  /**
   * Ids of the chat up to where the answer begins, and how many messages were left out.
   * @param context tokens a session holds
   * @throws ContextFullError when there is no room for an answer
   */
  fit(messages: readonly ChatMessage[], options: WireChatOptions, context: number): { ids: number[]; dropped: number } {
    const { overflow = 'error', maxTokens = Infinity, templateVariables } = options;
    if (!['error', 'drop-oldest'].includes(overflow)) throw new BadArgumentError('overflow', `${overflow} is not known`, 'Use error or drop-oldest.');
    const encode = (from: number) => this.encode([...messages.slice(0, first), ...messages.slice(from)], templateVariables);
    // A turn: a user's message and all that follows it. System messages at the beginning stay.
    checkMessages(messages);
    let first = messages.findIndex(message => message.role !== 'system');
    if (first < 0) first = messages.length;
    const whole = encode(first);
    const room = overflow === 'error' ? context - 1 : context - Math.max(1, Math.min(maxTokens, Math.floor(context * STEP)));
    if (whole.length <= room) return { ids: whole, dropped: 0 };
    if (overflow === 'error') throw new ContextFullError(whole.length + 1, context);

    const turns = messages.flatMap((message, i) => i > first && message.role === 'user' ? [i] : []);
    // In steps: what is left then stays the same, and stored, for some turns.
    const step = Math.max(1, Math.floor(context * STEP));
    const wanted = whole.length - step * Math.ceil((whole.length - room) / step);
    const encoded = turns.map(() => undefined as number[] | undefined);
    const least = (most: number) => {
      let low = 0, high = turns.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if ((encoded[middle] ??= encode(turns[middle]!)).length <= most) high = middle;
        else low = middle + 1;
      }
      return low;
    };
    for (const most of [wanted, room]) {
      const at = least(most);
      if (at < turns.length) return { ids: encoded[at]!, dropped: turns[at]! - first };
    }
    throw new ContextFullError((encoded.at(-1) ?? whole).length + 1, context);
  }

  /** Ids of the whole chat up to where the answer begins. */
  encode(messages: readonly ChatMessage[], variables?: TemplateVariables): number[] {
    const { text, foreign } = this.#template.write(checkMessages(messages), true, variables);
    return this.#tokenizer.encodeMixed(text, foreign);
  }

  #findEnd(): number[] {
    try {
      const { text, foreign } = this.#template.ending();
      return this.#tokenizer.firstAdded(text, foreign);
    } catch (error) {
      // Not every template takes these messages.
      if (error instanceof ChatTemplateError) return [];
      throw error;
    }
  }
}

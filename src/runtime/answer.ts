/** Tokens of an answer to pieces of text: whole characters, nothing that may still become a stop string. */
import type { TextStream } from '../tokenizer/text-stream.js';
import { StopFilter } from './stop-filter.js';
import type { Piece } from './types.js';

export class Answer {
  /** Every token pushed. */
  readonly ids: number[] = [];
  /** The text of the pieces given out. */
  text = '';
  /** A stop string was met: nothing follows. */
  stopped = false;
  readonly #characters: TextStream;
  readonly #stops: StopFilter;
  /** Tokens whose text is held back, wholly or in part. */
  #waiting: number[] = [];

  constructor(characters: TextStream, stops: readonly string[]) {
    this.#characters = characters;
    this.#stops = new StopFilter(stops);
  }

  /** The piece that is ready after this token, if any. */
  push(id: number): Piece | undefined {
    this.ids.push(id);
    this.#waiting.push(id);
    const text = this.#filter(this.#characters.push(id));
    return text === '' ? undefined : this.#piece(text);
  }

  /** What was held back, when no token follows. */
  end(): Piece | undefined {
    const text = this.stopped ? '' : this.#filter(this.#characters.end()) + this.#stops.end();
    return text === '' && this.#waiting.length === 0 ? undefined : this.#piece(text);
  }

  #filter(characters: string): string {
    const { text, stopped } = this.#stops.push(characters);
    this.stopped = stopped;
    return text;
  }

  #piece(text: string): Piece {
    const piece = { text, ids: this.#waiting };
    this.text += text;
    this.#waiting = [];
    return piece;
  }
}

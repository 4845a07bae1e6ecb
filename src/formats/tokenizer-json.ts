/**
 * Hugging Face's tokenizer.json, read and written. Most of it is the vocabulary and its merges, a hundred thousand texts and
 * more: where it is read they never become JavaScript's strings, nor does the file as a whole.
 */
import { BadModelFileError } from '../errors.js';
import { largeBytes } from '../platform/platform.js';
import type { TokenizerJson } from '../tokenizer/pieces.js';
import { Ranks } from '../tokenizer/ranks.js';
import { MAX_ID, VocabularyBuilder, type Vocabulary } from '../tokenizer/vocabulary.js';
import { MAX_BRACKETS, shown, tooManyBrackets } from './bytes.js';

export interface TokenizerFile {
  /** All but vocabulary and merges. */
  json: TokenizerJson;
  vocabulary: Vocabulary;
  /** Reads the merges. @throws BadModelFileError */
  ranks(): Ranks;
}

type Fail = (problem: string, field?: string) => never;

/** @param field of messages that are about no part of it @throws BadModelFileError */
export function readTokenizerJson(bytes: Uint8Array, path: string, field: string): TokenizerFile {
  const fail: Fail = (problem, part = field) => { throw new BadModelFileError(path, part, problem); };
  const attempt = <T>(read: () => T): T => {
    try {
      return read();
    } catch (cause) {
      throw cause instanceof BadModelFileError ? cause : fail(`is not JSON (${(cause as Error).message})`);
    }
  };
  return attempt(() => {
    checkUtf8(bytes);
    const reader = new Reader(bytes, fail), rest: string[] = [];
    let vocabulary = new VocabularyBuilder(0, 0).finish(), merges = new Reader(encoder.encode('[]'), fail);
    reader.object(key => {
      if (key !== 'model' || !reader.isAt('{')) return void rest.push(`${JSON.stringify(key)}:${reader.value()}`);
      const model: string[] = [];
      reader.object(key => {
        if (key === 'vocab' && reader.isAt('{')) {
          vocabulary = readVocabulary(reader);
        } else if (key === 'merges' && reader.isAt('[')) {
          // Their parts are pieces, which may come behind them.
          merges = new Reader(bytes, fail, reader.at);
          reader.skip();
        } else {
          model.push(`${JSON.stringify(key)}:${reader.value()}`);
        }
      });
      rest.push(`"model":{${model.join()}}`);
    });
    reader.end();
    const json = JSON.parse(`{${rest.join()}}`), type = json.model?.type ?? 'BPE';
    if (type !== 'BPE') fail(`is ${shown(type)}, not "BPE"`, 'model.type');
    json.model ??= {};
    return { json, vocabulary, ranks: () => attempt(() => readRanks(merges, vocabulary)) };
  });
}

function readVocabulary(reader: Reader): Vocabulary {
  // A piece takes five characters at least: "":0,
  const builder = new VocabularyBuilder(reader.left, Math.ceil(reader.left / 5));
  reader.members('{', '}', () => {
    const { bytes, begin, end } = reader.text();
    reader.expect(':');
    builder.add(bytes, begin, end, reader.id());
  });
  const vocabulary = builder.finish(), { repeated } = vocabulary;
  if (repeated) reader.fail(`${shown(vocabulary.piece(repeated[0]))} is token ${repeated[0]} and ${repeated[1]}`, 'model.vocab');
  return vocabulary;
}

function readRanks(reader: Reader, vocabulary: Vocabulary): Ranks {
  const ranks = new Ranks(vocabulary, Math.ceil(reader.left / 3));
  reader.members('[', ']', () => {
    if (!reader.isAt('[')) {
      const { bytes, begin, end } = reader.text();
      let cut = begin;
      while (cut < end && bytes[cut] !== BLANK) cut++;
      return ranks.add(bytes, begin, cut, Math.min(cut + 1, end), end);
    }
    const parts: Text[] = [];
    reader.members('[', ']', () => parts.push(reader.text()));
    const [left, right] = parts;
    if (!left || !right || parts.length > 2) return reader.fail('a merge that is no pair', 'model.merges');
    if (left.bytes === right.bytes) return ranks.add(left.bytes, left.begin, left.end, right.begin, right.end);
    const cut = left.end - left.begin, both = new Uint8Array(cut + right.end - right.begin);
    both.set(left.bytes.subarray(left.begin, left.end));
    both.set(right.bytes.subarray(right.begin, right.end), cut);
    ranks.add(both, 0, cut, cut, both.length);
  });
  return ranks.finish();
}

/** Bytes that are checked at once. */
const STRETCH = 1 << 14;
function checkUtf8(bytes: Uint8Array): void {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  for (let at = 0; at < bytes.length; at += STRETCH) decoder.decode(bytes.subarray(at, at + STRETCH), { stream: at + STRETCH < bytes.length });
}

const QUOTE = 0x22, BACKSLASH = 0x5c, BLANK = 0x20;
const encoder = new TextEncoder(), decoder = new TextDecoder();

/** What a quoted text says: UTF-8 in `bytes` from `begin` to `end`. */
interface Text { bytes: Uint8Array; begin: number; end: number }

class Reader {
  private brackets = 0;
  constructor(private readonly bytes: Uint8Array, readonly fail: Fail, public at = 0) {}

  get left(): number { return this.bytes.length - this.at; }

  isAt(char: string): boolean { return this.next() === char.charCodeAt(0); }

  expect(char: string): void {
    if (!this.isAt(char)) this.unexpected();
    this.at++;
  }

  object(each: (key: string) => void): void {
    this.members('{', '}', () => {
      const { bytes, begin, end } = this.text(), key = decoder.decode(bytes.subarray(begin, end));
      this.expect(':');
      each(key);
    });
  }

  members(open: string, close: string, each: () => void): void {
    this.expect(open);
    if (this.isAt(close)) return void this.at++;
    for (; ; this.at++) {
      each();
      if (this.isAt(close)) return void this.at++;
      if (!this.isAt(',')) this.unexpected();
    }
  }

  text(): Text {
    if (!this.isAt('"')) this.unexpected();
    const { bytes } = this, quote = this.at;
    let at = quote + 1, isPlain = true;
    for (let byte: number | undefined; (byte = bytes[at]) !== QUOTE; at++) {
      if (byte === undefined) this.unexpected(at);
      if (byte !== BACKSLASH) continue;
      isPlain = false;
      at++;
    }
    this.at = at + 1;
    if (isPlain) return { bytes, begin: quote + 1, end: at };
    const text = encoder.encode(JSON.parse(decoder.decode(bytes.subarray(quote, at + 1))));
    return { bytes: text, begin: 0, end: text.length };
  }

  id(): number {
    this.next();
    const begin = this.at;
    let id = 0;
    for (let digit; (digit = this.bytes[this.at]! - 48) >= 0 && digit <= 9 && id < MAX_ID; this.at++) id = 10 * id + digit;
    if (this.at > begin && id < MAX_ID) return id;
    this.at = begin;
    return this.fail(`${shown(this.value())} is no token id`, 'model.vocab');
  }

  /** A value as it is written. */
  value(): string {
    this.next();
    const begin = this.at;
    this.skip();
    return decoder.decode(this.bytes.subarray(begin, this.at));
  }

  skip(): void {
    const first = this.next();
    if (first === QUOTE) return void this.text();
    if (first === 0x5b || first === 0x7b) return this.skipNested();
    const begin = this.at;
    while (this.at < this.bytes.length && !/[\s,:[\]{}"]/.test(String.fromCharCode(this.bytes[this.at]!))) this.at++;
    if (this.at === begin) this.unexpected();
  }

  end(): void { if (this.next() !== undefined) this.unexpected(); }

  private skipNested(): void {
    for (let depth = 0; ;) {
      const byte = this.next();
      if (byte === undefined) this.unexpected();
      if (byte === QUOTE) {
        this.text();
        continue;
      }
      this.at++;
      const opens = byte === 0x5b || byte === 0x7b;
      if (!opens && byte !== 0x5d && byte !== 0x7d) continue;
      if (opens && ++this.brackets > MAX_BRACKETS) this.fail(tooManyBrackets(this.brackets, MAX_BRACKETS));
      depth += opens ? 1 : -1;
      if (depth === 0) return;
    }
  }

  /** The next byte that is no blank, which is at `at`; undefined at the end. */
  private next(): number | undefined {
    for (; ; this.at++) {
      const byte = this.bytes[this.at];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return byte;
    }
  }

  private unexpected(at = this.at): never {
    const byte = this.bytes[at];
    return this.fail(`is not JSON (${byte === undefined ? 'it ends too early' : `byte ${at} makes no sense`})`);
  }
}

/** A pair of pieces, or both with a blank between. */
export type Merge = string | [string, string];

/** Entries that become text at once. */
const BATCH = 1024;

/** @param json without vocabulary and merges @param tokens by id */
export function writeTokenizerJson({ model, ...rest }: { model: object; [step: string]: unknown }, tokens: readonly string[], merges: readonly Merge[]): Uint8Array {
  const text = JSON.stringify({ ...rest, model: { ...model, merges: [], vocab: {} } }), tail = '],"vocab":{}}}';
  const writer = new Writer();
  writer.add(text.slice(0, -tail.length));
  for (let begin = 0; begin < merges.length; begin += BATCH) writer.add(`${begin === 0 ? '' : ','}${JSON.stringify(merges.slice(begin, begin + BATCH)).slice(1, -1)}`);
  writer.add(tail.slice(0, -'}}}'.length));
  for (let begin = 0; begin < tokens.length; begin += BATCH) {
    const entries = tokens.slice(begin, begin + BATCH).map((token, i) => `${JSON.stringify(token)}:${begin + i}`);
    writer.add(`${begin === 0 ? '' : ','}${entries.join()}`);
  }
  writer.add('}}}');
  return writer.bytes;
}

class Writer {
  private room = largeBytes(1 << 20);
  private length = 0;

  add(text: string): void {
    while (this.length + 3 * text.length > this.room.length) {
      const larger = largeBytes(2 * this.room.length);
      larger.set(this.room.subarray(0, this.length));
      this.room = larger;
    }
    this.length += encoder.encodeInto(text, this.room.subarray(this.length)).written;
  }

  get bytes(): Uint8Array { return this.room.subarray(0, this.length); }
}

/** What each id of a vocabulary stands for, in bytes. */
import { MAX_ID, type Vocabulary } from './vocabulary.js';

/** The parts of a `tokenizer.json` that are read here, vocabulary and merges apart; the library checks the rest. */
export interface TokenizerJson {
  added_tokens?: { id: number; content: string; special?: boolean; normalized?: boolean; lstrip?: boolean; rstrip?: boolean }[];
  normalizer?: unknown;
  pre_tokenizer?: unknown;
  post_processor?: unknown;
  decoder?: unknown;
  model: { unk_token?: string | null; [key: string]: unknown };
}

const UTF8 = new TextEncoder();

/** The alphabet of byte-level BPE, backwards: printable Latin-1 stands for itself, the 68 others for U+0100 and on. */
const BYTE_OF_CHAR = (() => {
  const printable = (byte: number) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  const map = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) map.set(String.fromCharCode(printable(byte) ? byte : next++), byte);
  return map;
})();

const CHAR_OF_BYTE = [...BYTE_OF_CHAR.keys()];

/** A word in the alphabet of byte-level BPE. */
export function spellBytes(word: string): string {
  let spelled = '';
  for (const byte of UTF8.encode(word)) spelled += CHAR_OF_BYTE[byte]!;
  return spelled;
}

function byteLevel(piece: string): Uint8Array {
  const bytes: number[] = [];
  for (const char of piece) {
    const byte = BYTE_OF_CHAR.get(char);
    if (byte === undefined) bytes.push(...UTF8.encode(char));
    else bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

function sentencePiece(piece: string): Uint8Array {
  const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(piece);
  return byte ? Uint8Array.of(parseInt(byte[1]!, 16)) : UTF8.encode(piece.replaceAll('▁', ' '));
}

/** The steps of a decoder, sequences laid flat. */
function steps(decoder: unknown): { type?: string; start?: number; prepend_scheme?: string; add_prefix_space?: boolean }[] {
  const { type, decoders } = (decoder ?? {}) as { type?: string; decoders?: unknown[] };
  return type === 'Sequence' ? (decoders ?? []).flatMap(steps) : [decoder ?? {}];
}

export interface Pieces {
  /** Ids reach to this, less one. */
  count: number;
  /** Text begins with a space that its author did not write. */
  leadingSpace: boolean;
  /** Bytes of an id; none for special tokens and for ids nobody uses. */
  bytes(id: number): Uint8Array | undefined;
}

function checkId(id: unknown): number {
  if (Number.isInteger(id) && (id as number) >= 0 && (id as number) < MAX_ID) return id as number;
  throw new Error(`${JSON.stringify(id)} is no token id`);
}

/** @throws Error when an id of an added token is none */
export function readPieces({ added_tokens = [], decoder }: TokenizerJson, vocabulary: Vocabulary): Pieces {
  const decoding = steps(decoder);
  const toBytes = decoding.some(step => step.type === 'ByteLevel') ? byteLevel : sentencePiece;
  const added = new Map(added_tokens.map(({ id, content, special }) => [checkId(id), special ? undefined : UTF8.encode(content)]));
  return {
    count: [...added.keys()].reduce((count, id) => Math.max(count, id + 1), vocabulary.count),
    leadingSpace: decoding.some(step => (step.type === 'Strip' && (step.start ?? 0) > 0)
      || (step.type === 'Metaspace' && step.prepend_scheme !== 'never' && step.add_prefix_space !== false)),
    bytes(id) {
      if (added.has(id)) return added.get(id);
      const piece = vocabulary.piece(id);
      return piece === undefined ? undefined : toBytes(piece);
    },
  };
}

/**
 * llama2.c's tokenizer.bin -> Hugging Face's tokenizer.json.
 *
 * File: u32 max_token_length, then for each id { f32 score; u32 length; bytes }. Ids 0 to 2 are unknown, BOS and EOS, the
 * next 256 the bytes `<0x00>` … `<0xFF>`; the word mark ▁ is a plain space already.
 *
 * llama2.c puts a space in front of the text, takes code points (bytes where a code point is no piece), and merges the
 * neighbours whose concatenation is the piece of the highest score, the leftmost first. Unlike there, text never turns
 * into control and byte pieces.
 */
import { BadModelFileError } from '../errors.js';
import { ByteReader, readBytes } from './bytes.js';
import { LONGEST_PIECE, rankedMerges, type ScoredPiece } from './sentencepiece.js';
import { writeTokenizerJson } from './tokenizer-json.js';
import type { ByteSource } from './types.js';

const FIRST_PIECE = 3 + 256;
const HINT = 'Give the tokenizer that belongs to this model with `--tokenizer FILE`.';

/** Text of a tokenizer.json. `vocabSize` is the model's: the file does not say how many pieces it has. */
export async function readLlama2cTokenizer(source: ByteSource, vocabSize: number): Promise<Uint8Array> {
  const fail = (field: string, problem: string): never => { throw new BadModelFileError(source.name, field, problem, HINT); };
  // 8 bytes in front of each piece.
  if (source.size < 4 + 8 * vocabSize || source.size > 4 + (8 + LONGEST_PIECE) * vocabSize) {
    fail('size', `${source.size} bytes cannot be a tokenizer of ${vocabSize} pieces`);
  }
  if (vocabSize < FIRST_PIECE) fail('size', `the model has ${vocabSize} pieces, llama2.c's tokenizers have at least ${FIRST_PIECE}`);
  const reader = new ByteReader(await readBytes(source, 0, source.size, 'pieces'), source.name);
  const longest = reader.u32('max_token_length');
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const pieces: ScoredPiece[] = [];
  const ids = new Map<string, number>();
  for (let id = 0; id < vocabSize; id++) {
    const score = reader.f32(`piece ${id}`), length = reader.u32(`piece ${id}`);
    const bytes = reader.take(length, `piece ${id}`);
    let text = '';
    try {
      text = decoder.decode(bytes);
    } catch {
      fail(`piece ${id}`, 'is not UTF-8');
    }
    if (Number.isNaN(score) || length === 0 || length > LONGEST_PIECE) fail(`piece ${id}`, `${length} bytes with score ${score}`);
    if (ids.has(text)) fail(`piece ${id}`, `"${text}" is piece ${ids.get(text)} already`);
    pieces.push({ text, score });
    ids.set(text, id);
  }
  if (reader.left !== 0) fail('size', `${reader.left} bytes are left after the model's ${vocabSize} pieces (longest: ${longest})`);
  for (let byte = 0; byte < 256; byte++) {
    const text = `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
    if (pieces[3 + byte]!.text !== text) fail(`piece ${3 + byte}`, `"${pieces[3 + byte]!.text}" instead of ${text}`);
  }
  return tokenizerJson(pieces);
}

function tokenizerJson(pieces: ScoredPiece[]): Uint8Array {
  const tokens = pieces.map(piece => piece.text), [unknown, bos, eos] = tokens as [string, string, string];
  const special = (id: number, content: string) =>
    ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true });
  return writeTokenizerJson({
    version: '1.0', truncation: null, padding: null,
    added_tokens: [special(1, bos), special(2, eos)],
    normalizer: { type: 'Prepend', prepend: ' ' },
    pre_tokenizer: null,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: bos, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [{ SpecialToken: { id: bos, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { [bos]: { id: bos, ids: [1], tokens: [bos] } },
    },
    decoder: { type: 'Sequence', decoders: [{ type: 'ByteFallback' }, { type: 'Fuse' }, { type: 'Strip', content: ' ', start: 1, stop: 0 }] },
    model: {
      type: 'BPE', dropout: null, unk_token: unknown, continuing_subword_prefix: null, end_of_word_suffix: null,
      fuse_unk: false, byte_fallback: true, ignore_merges: false,
    },
  }, tokens, rankedMerges(pieces.slice(FIRST_PIECE)));
}

// serial
/** Vocabularies of GGUF files, SentencePiece and byte-level, and llama2.c's tokenizer.bin: lies in them, one at a time. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { detect } from '../../src/formats/detect.js';
import { readLlama2cTokenizer } from '../../src/formats/llama2c-tokenizer.js';
import { ChatTemplate } from '../../src/chat/conversation.js';
import { bytesSource } from '../../src/platform/platform.js';
import { Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { bool, f32, ggufFile, list, num, str, text, tinyParts, tokens, u32, u64, type Parts, type Raw } from '../formats/gguf-file.js';
import { concat, tokenizerBin } from '../formats/synthetic.js';
import { measure, type Attack } from './measured.js';

const BAD = 'BAD_MODEL_FILE', UNSUPPORTED = 'UNSUPPORTED_FORMAT', key = (name: string) => `tokenizer.ggml.${name}`;
type Change = (parts: Parts) => void;
const entry = (name: string, value: Raw | undefined): Change => parts => {
  parts.entries = [...parts.entries.filter(([one]) => one !== name), ...value ? [[name, value] as [string, Raw]] : []];
};
const all = (...changes: Change[]): Change => parts => changes.forEach(change => change(parts));
const texts = (items: string[]) => list(8, items.map(text));

/** The same tokens as pieces with scores: all normal but the unknown one, bytes, and the last, which is a control token. */
const pieces = tokens.map((token, id) => id === 0 ? '<unk>' : id <= 16 ? `<0x${id.toString(16).padStart(2, '0').toUpperCase()}>` : token);
const types = pieces.map((_, id) => id === 0 ? 2 : id <= 16 ? 6 : id === pieces.length - 1 ? 3 : 1);
const sentencePiece = all(entry(key('model'), str('llama')), entry(key('tokens'), texts(pieces)), entry(key('scores'), list(6, pieces.map((_, id) => f32(-id)))),
  entry(key('token_type'), list(5, types.map(u32))), entry(key('bos_token_id'), num(1)));
/** Others. */
const many = (count: number, piece: (i: number) => string): Change => parts => {
  entry(key('tokens'), list(8, [Buffer.concat(Array.from({ length: count }, (_, i) => text(piece(i))))], count))(parts);
  entry(key('token_type'), undefined)(parts);
  entry(key('scores'), list(6, [new Uint8Array(4 * count)], count))(parts);
};

const scored: [string, Change, string | null, string?][] = [
  ['sound', () => {}, null],
  ['no scores', entry(key('scores'), undefined), BAD, key('scores')],
  ['too few scores', entry(key('scores'), list(6, [f32(0)])), BAD, key('scores')],
  ['2^40 scores', entry(key('scores'), list(6, [], 2 ** 40)), BAD, key('scores')],
  ['a score that is no number', entry(key('scores'), list(6, pieces.map(() => f32(NaN)))), BAD, key('scores')],
  ['scores that are texts', entry(key('scores'), texts(pieces)), BAD, key('scores')],
  ['types for others', entry(key('token_type'), list(5, [u32(1)])), BAD, key('token_type')],
  ['types that are truths', entry(key('token_type'), list(7, [new Uint8Array(pieces.length)], pieces.length)), BAD, key('token_type')],
  ['a byte below 0', entry(key('tokens'), texts(pieces.map((piece, id) => id === 1 ? '<0x-1>' : piece))), BAD, key('tokens')],
  ['a byte above 255', entry(key('tokens'), texts(pieces.map((piece, id) => id === 1 ? '<0x100>' : piece))), BAD, key('tokens')],
  ['a byte of letters', entry(key('tokens'), texts(pieces.map((piece, id) => id === 1 ? '<0xGG>' : piece))), BAD, key('tokens')],
  ['a piece twice', entry(key('tokens'), texts(pieces.map((piece, id) => id === 40 ? pieces[41]! : piece))), BAD, key('tokens')],
  ['a piece of a megabyte', entry(key('tokens'), texts(pieces.map((piece, id) => id === 40 ? 'x'.repeat(1e6) : piece))), BAD, key('tokens')],
  ['a piece of 2^62 bytes', entry(key('tokens'), list(8, [u64(2n ** 62n)], pieces.length)), BAD, key('tokens')],
  ['pieces that are no UTF-8', entry(key('tokens'), list(8, pieces.map(() => concat(u64(1), Uint8Array.of(0xff))))), BAD, key('tokens')],
  ['pieces that are numbers', entry(key('tokens'), list(4, pieces.map(() => u32(1)))), BAD, key('tokens')],
  ['pieces of nothing but one letter', many(pieces.length, i => 'a'.repeat(1 + i % 256)), BAD, key('tokens')],
  ['300000 pieces for other rows', many(300_000, i => `p${i}`), BAD, key('tokens')],
  ['a million empty pieces', many(1_000_000, () => ''), BAD, key('tokens')],
  ['BOS outside', entry(key('bos_token_id'), num(pieces.length)), BAD, 'config.bosId'],
  ['EOS outside', entry(key('eos_token_id'), num(0xffffffff)), BAD, 'config.eosIds'],
  ['BOS that is a text', entry(key('bos_token_id'), str('<s>')), BAD, key('bos_token_id')],
  ['a truth that is a number', entry(key('add_space_prefix'), num(1)), BAD, key('add_space_prefix')],
];

const byteLevel: [string, Change, string | null, string?][] = [
  ['sound', () => {}, null],
  ['no tokens', entry(key('tokens'), undefined), BAD, key('tokens')],
  ['no merges', entry(key('merges'), undefined), BAD, key('merges')],
  ['a merge of one', entry(key('merges'), texts(['the'])), BAD, key('merges')],
  ['a merge of blanks', entry(key('merges'), texts([' '])), BAD, key('merges')],
  ['merges that are numbers', entry(key('merges'), list(4, [u32(1)])), BAD, key('merges')],
  ['2^40 merges', entry(key('merges'), list(8, [], 2 ** 40)), BAD, key('merges')],
  ['two million merges', entry(key('merges'), list(8, [new Uint8Array(16e6)], 2e6)), BAD, key('merges')],
  ['words cut in an unknown way', entry(key('pre'), str('constructor')), UNSUPPORTED, key('pre')],
  ['a cut of a megabyte', entry(key('pre'), str('x'.repeat(1e6))), UNSUPPORTED, key('pre')],
  ['a kind that is not known', entry(key('model'), str('__proto__')), UNSUPPORTED, key('model')],
  ['a template of 200000 characters', entry('tokenizer.chat_template', str('x'.repeat(200_000))), BAD, 'chat.template'],
  ['a template of 20 MB', entry('tokenizer.chat_template', str('x'.repeat(20e6))), BAD, 'tokenizer.chat_template'],
  ['a template that is a number', entry('tokenizer.chat_template', num(1)), BAD, 'tokenizer.chat_template'],
  ['a template without an end', entry('tokenizer.chat_template', str('{% for i in range(10 ** 12) %}x{% endfor %}')), 'CHAT_TEMPLATE'],
  ['a template that is deep', entry('tokenizer.chat_template', str(`{{ ${'('.repeat(20_000)}1${')'.repeat(20_000)} }}`)), 'CHAT_TEMPLATE'],
  ['a template that doubles', entry('tokenizer.chat_template', str(`{% set n = namespace(s='xxxxxxxx') %}${'{% set n.s = n.s ~ n.s %}'.repeat(60)}{{ n.s }}`)), 'CHAT_TEMPLATE'],
  ['an end that control tokens hide', all(entry(key('add_bos_token'), bool(true)), entry(key('bos_token_id'), undefined)), null],
];

async function read(folder: string): Promise<void> {
  const found = await detect(join(folder, 'model.gguf'));
  if (!('source' in found)) throw new Error('packed');
  const { tokenizerJson, config, chat, close } = found.source;
  await close();
  const tokenizer = new Tokenizer(tokenizerJson, config, folder, chat?.template);
  tokenizer.encode('the thing');
  if (chat) new ChatTemplate(chat, tokenizer.guarded, folder).write([{ role: 'user', content: 'the thing' }], true);
}
const gguf = (kind: string, base: Change) => ([name, change, code, field]: typeof scored[number]): Attack => ({
  name: `${kind}: ${name}`, read, code, ...(field !== undefined && { field }),
  make(folder) {
    const parts = tinyParts();
    base(parts);
    change(parts);
    writeFileSync(join(folder, 'model.gguf'), ggufFile(parts));
  },
});

const sound = () => tokenizerBin([{ text: 'a', score: 0 }, { text: 'b', score: -1 }, { text: ' ', score: -2 }]), SIZE = 262;
const changed = (at: number, ...bytes: number[]) => () => { const file = sound(); file.set(bytes, at); return file; };
/** Of piece 259, 'a': its score, length and text. */
const PIECE = sound().length - 3 * 9;
const binaries: [string, () => Uint8Array, string | null, string?][] = [
  ['sound', sound, null],
  ['nothing', () => new Uint8Array(0), BAD, 'size'],
  ['a byte missing', () => sound().subarray(0, -1), BAD, 'piece 261'],
  ['a byte too many', () => concat(sound(), new Uint8Array(1)), BAD, 'size'],
  ['a piece too many', () => concat(sound(), f32(0), u32(1), Uint8Array.of(99)), BAD, 'size'],
  ['megabytes', () => new Uint8Array(50e6), BAD, 'size'],
  ['a length of 2^32 - 1', changed(PIECE + 4, 255, 255, 255, 255), BAD, 'piece 259'],
  ['a length of 0', changed(PIECE + 4, 0), BAD, 'piece 259'],
  ['a score that is no number', changed(PIECE, 0, 0, 192, 127), BAD, 'piece 259'],
  ['a piece that is no UTF-8', changed(PIECE + 8, 255), BAD, 'piece 259'],
  ['a piece twice', changed(PIECE + 8, 98), BAD, 'piece 260'],
  ['a byte that is another', () => { const file = sound(), at = Buffer.from(file.buffer).indexOf('<0x41>'); file[at + 3] = 0x35; return file; }, BAD],
  ['noise', () => Uint8Array.from({ length: 5000 }, (_, i) => i * 2654435761 >>> 13), BAD],
];

await measure('vocabularies that lie', import.meta.url, [
  ...scored.map(gguf('SentencePiece in GGUF', sentencePiece)),
  ...byteLevel.map(gguf('byte-level BPE in GGUF', () => {})),
  ...binaries.map(([name, bytes, code, field]): Attack => ({
    name: `tokenizer.bin: ${name}`, code, ...(field !== undefined && { field }),
    make: folder => writeFileSync(join(folder, 'tokenizer.bin'), bytes()),
    read: async folder => {
      const json = await readLlama2cTokenizer(bytesSource(join(folder, 'tokenizer.bin'), readFileSync(join(folder, 'tokenizer.bin'))), SIZE);
      new Tokenizer(json, { vocabSize: SIZE, bosId: 1, addBos: true }, folder).encode('ab a');
    },
  })),
]);

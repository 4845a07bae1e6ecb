import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ModelConfig } from '../../src/formats/types.js';
import { Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { byteId, config, tokenizerJson, wordId } from '../runtime/fake-engine.js';

const test = suite('tokenizer');
const make = (json: object, changes: Partial<ModelConfig> = {}) =>
  new Tokenizer(new TextEncoder().encode(`${JSON.stringify(json)}   `), { ...config, ...changes }, 'file');

/** The alphabet of byte-level BPE, as its definition has it. */
const byteChar = (() => {
  const plain = [...range(33, 126), ...range(161, 172), ...range(174, 255)];
  const map = new Map(plain.map(byte => [byte, String.fromCharCode(byte)]));
  for (let byte = 0, next = 256; byte < 256; byte++) if (!map.has(byte)) map.set(byte, String.fromCharCode(next++));
  return (byte: number) => map.get(byte)!;
})();
function range(first: number, last: number) { return Array.from({ length: last - first + 1 }, (_, i) => first + i); }

const byteLevel = {
  added_tokens: [{ id: 256, content: '<>', special: true }, { id: 257, content: '<tool>', special: false }],
  normalizer: null,
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
  post_processor: null,
  decoder: { type: 'ByteLevel' },
  model: { type: 'BPE', ignore_merges: true, vocab: { ...Object.fromEntries(range(0, 255).map(byte => [byteChar(byte), byte])), '<>': 256 }, merges: ['< >'] },
};

const texts = ['Hello', ' Hello  world ', 'naïve €5 — 漢字 😀', 'line\nline\r\n\ttab', 'a\u0000b', '\ufeffBOM', '<s></s>', '<0x41>'];

test('SentencePiece: every text comes back, BOS as the model wants it', () => {
  const tokenizer = make(tokenizerJson);
  for (const text of texts) {
    const ids = tokenizer.encode(text);
    assert.is(ids[0], 1);
    assert.is(tokenizer.decode(ids), text);
    assert.equal(tokenizer.encode(text, { addBos: false }), ids.slice(1));
  }
  assert.equal(tokenizer.encode(''), [1]);
  assert.equal(make(tokenizerJson, { addBos: false }).encode('Hello'), [wordId('▁Hello')]);
});

test('text never becomes a special token', () => {
  assert.not.ok(make(tokenizerJson).encode('<s> </s> <unk>', { addBos: false }).some(id => id < 3));
  const tokenizer = make(byteLevel, { vocabSize: 258, addBos: false });
  assert.equal(tokenizer.encode('<>'), [60, 62]);
  assert.equal(tokenizer.encode('<tool>'), [257]);
});

test('byte-level: every text and every byte comes back', () => {
  const tokenizer = make(byteLevel, { vocabSize: 258, addBos: false });
  for (const text of texts) assert.is(tokenizer.decode(tokenizer.encode(text)), text);
  assert.is(tokenizer.decode([0xc3, 0xa9, 256, 0x20]), 'é ');
});

test('characters wait for their last byte', () => {
  const stream = make(tokenizerJson).stream(wordId('o'));
  assert.equal([0xf0, 0x9f, 0x98, 0x80].map(byte => stream.push(byteId(byte))), ['', '', '', '😀']);
  assert.equal([stream.push(byteId(0xe2)), stream.push(wordId('o')), stream.end()], ['', '\ufffdo', '']);
});

test('words are cut where no merge reaches across, with the same ids', () => {
  const joined = make({ ...tokenizerJson, pre_tokenizer: { type: 'Split', pattern: { Regex: '[\\s\\S]+' }, behavior: 'Isolated', invert: false } });
  for (const text of [...texts, 'Hello Hello  Hello   Hello']) assert.equal(make(tokenizerJson).encode(text), joined.encode(text));
});

test('padding ids have no text', () => {
  assert.is(make(tokenizerJson, { vocabSize: config.vocabSize + 10 }).decode([config.vocabSize + 5]), '');
});

test('bytes that are no tokenizer.json are refused', () => {
  for (const bytes of ['', '{', '[]', '{"model":{}}', '{"model":{"type":"BPE","vocab":3,"merges":[]}}', '\xff']) {
    assert.throws(() => new Tokenizer(Buffer.from(bytes, 'latin1'), config, 'file'), (error: any) => error.code === 'BAD_MODEL_FILE' && error.field === 'tokenizer');
  }
});

test('a vocabulary of another kind is named', () => {
  const unigram = { model: { type: 'Unigram', unk_id: 0, vocab: [['<unk>', 0], ['a', -1]] } };
  assert.throws(() => new Tokenizer(new TextEncoder().encode(JSON.stringify(unigram)), { vocabSize: 2, bosId: null, addBos: false }, 'file'),
    (error: any) => error.code === 'BAD_MODEL_FILE' && /model.type: is "Unigram", not "BPE"/.test(error.message));
});

test.run();

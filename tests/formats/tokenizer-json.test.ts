import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BadModelFileError } from '../../src/errors.js';
import { readTokenizerJson, writeTokenizerJson, type Merge } from '../../src/formats/tokenizer-json.js';

const test = suite('tokenizer.json');
const read = (text: string | Uint8Array) => readTokenizerJson(typeof text === 'string' ? new TextEncoder().encode(text) : text, 'file', 'JSON');

const vocab = { 'a': 0, 'b"': 1, '\\': 2, 'é🦦': 3, '\n': 4, '': 5, '__proto__': 6, 'a b': 7, '{"x": [': 8 };
const steps = { version: '1.0', added_tokens: [{ id: 9, content: '<"\\>', special: true }], normalizer: null, list: [1, -2.5e3, true, { deep: ['}', ']'] }], text: 'a\\' };
const json = { ...steps, model: { type: 'BPE', unk_token: null, vocab, merges: [] as Merge[] } };

test('the same as a JSON parser reads, with blanks, escapes and keys in any order', () => {
  const escaped = (text: string) => text.replace(/[^\0-\x7f]/g, char => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`).replace(/"a"/g, '"\\u0061"');
  const merged = { model: { merges: ['a b"', ['a b', '\\']], type: 'BPE', unk_token: null, vocab }, ...steps };
  for (const text of [JSON.stringify(json), JSON.stringify(json, null, 2), ` \r\n\t${JSON.stringify(json, null, '\t')}\n `, escaped(JSON.stringify(json)), JSON.stringify(merged)]) {
    const { json: { model, ...rest }, vocabulary } = read(text);
    assert.equal(rest, steps);
    assert.equal(model, { type: 'BPE', unk_token: null });
    assert.is(vocabulary.count, 9);
    for (const [piece, id] of Object.entries(vocab)) assert.is(vocabulary.get(piece), id, piece);
  }
});

test('merges: a blank between, the first of several, pairs', () => {
  const merges: Merge[] = ['a b"', 'é🦦 a b', ['a b', '\\'], ['\n', 'é🦦'], ['x', 'a'], 'a', ['', 'a']];
  const pairs: [string, string][] = [['a', 'b"'], ['é🦦', 'a b'], ['a b', '\\'], ['\n', 'é🦦'], ['x', 'a'], ['a', ''], ['', 'a']];
  const ranks = read(JSON.stringify({ model: { merges, vocab } })).ranks();
  for (const [rank, [left, right]] of pairs.entries()) assert.is(ranks.of(left, right), rank, `${left}|${right}`);
  for (const [left, right] of [['a', 'a'], ['b"', 'a'], ['x', 'x'], ['y', 'a']] as const) assert.is(ranks.of(left, right), undefined);
});

test('written and read again', () => {
  const tokens = Array.from({ length: 3000 }, (_, i) => `t${i}${'"\\é🦦\n'[i % 6] ?? ''}`).map((token, i) => i % 7 ? token : `${token} ▁`);
  const merges = tokens.slice(0, 2500).map((token, i): Merge => i % 7 ? `${token} x` : [token, 'x']), { model, ...rest } = json;
  const bytes = writeTokenizerJson({ ...rest, model: { type: 'BPE', unk_token: model.unk_token } }, tokens, merges);
  assert.equal(JSON.parse(new TextDecoder().decode(bytes)), { ...rest, model: { type: 'BPE', unk_token: null, merges, vocab: Object.fromEntries(tokens.map((token, id) => [token, id])) } });
  const { vocabulary, ranks } = read(bytes), all = ranks();
  assert.equal(tokens.map(token => vocabulary.get(token)), tokens.map((_, id) => id));
  assert.is(all.of(tokens[2499]!, 'x'), 2499);
  for (const [count, list] of [[0, []], [1, ['a']], [1024, tokens.slice(0, 1024)], [1025, tokens.slice(0, 1025)]] as const) {
    assert.is(Object.keys(JSON.parse(new TextDecoder().decode(writeTokenizerJson({ model: {} }, list, []))).model.vocab).length, count);
  }
});

/** Pieces whose places in a table of 4096 all lie among the first 400. */
function crowd(count: number): Record<string, number> {
  const pieces: Record<string, number> = {};
  for (let i = 0, n = 0; n < count; i++) {
    let hash = 0x811c9dc5;
    for (const char of `k${i}`) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193);
    if (((hash ^ hash >>> 15) & 4095) < 400) pieces[`k${i}`] = n++;
  }
  return pieces;
}

test('pieces that are slow to find are found while they are few', () => {
  const few = crowd(900), { vocabulary } = read(JSON.stringify({ model: { vocab: few } }));
  assert.is(Object.entries(few).filter(([piece, id]) => vocabulary.get(piece) !== id).length, 0);
});

for (const [name, text, field] of [
  ['nothing', '', 'JSON'],
  ['no object', '[]', 'JSON'],
  ['more behind it', '{}{}', 'JSON'],
  ['a text without end', '{"a": "b', 'JSON'],
  ['a text that ends in a backslash', '{"a": "b\\', 'JSON'],
  ['a list without end', '{"a": [1, ', 'JSON'],
  ['no value', '{"a": }', 'JSON'],
  ['no comma', '{"a": 1 "b": 2}', 'JSON'],
  ['a comma too many', '{"a": 1,}', 'JSON'],
  ['an escape that is none', '{"model": {"vocab": {"\\x": 0}}}', 'JSON'],
  ['a word that is none', '{"a": nul}', 'JSON'],
  ['brackets that do not match', '{"a": [}]}', 'JSON'],
  ['bytes that are no UTF-8', Uint8Array.of(...new TextEncoder().encode('{"model":{"vocab":{"'), 0xff, ...new TextEncoder().encode('":0}}}')), 'JSON'],
  ['a vocabulary without end', '{"model": {"vocab": {"a": 0', 'JSON'],
  ['an id that is text', '{"model": {"vocab": {"a": "0"}}}', 'model.vocab'],
  ['an id that is negative', '{"model": {"vocab": {"a": -1}}}', 'model.vocab'],
  ['a piece with two ids', '{"model": {"vocab": {"a": 5, "b": 0, "\\u0061": 3}}}', 'model.vocab'],
  ['half an id', '{"model": {"vocab": {"a": 0.5}}}', 'JSON'],
  ['an id of 2^24', '{"model": {"vocab": {"a": 16777216}}}', 'model.vocab'],
  ['pieces chosen to be slow to find', JSON.stringify({ model: { vocab: crowd(1500) } }), 'JSON'],
  ['merges of numbers', '{"model": {"vocab": {}, "merges": [1]}}', 'JSON'],
  ['merges of three', '{"model": {"vocab": {}, "merges": [["a", "b", "c"]]}}', 'model.merges'],
  ['another kind of model', '{"model": {"type": "Unigram", "vocab": [["a", -1]]}}', 'model.type'],
] as const) {
  test(`refused: ${name}`, () => {
    assert.throws(() => read(text).ranks(), (error: unknown) => error instanceof BadModelFileError && error.field === field || assert.unreachable(`${error} ${(error as BadModelFileError).field}`));
  });
}

test.run();

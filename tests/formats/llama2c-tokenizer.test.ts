import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { BadModelFileError } from '../../src/errors.js';
import { readLlama2cTokenizer } from '../../src/formats/llama2c-tokenizer.js';
import { bytesSource } from '../../src/platform/platform.js';
import { sharedDir } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';
import { encode, readVocabulary, type Vocabulary } from './llama2c-encode.js';
import { tokenizerBin } from './synthetic.js';

const texts = [
  '', ' ', '  ', '   a', 'a', 'Once upon a time', 'One day, a dragon', 'a  b   c    d     e      f', '     indented\n    code\n', 'trailing   ',
  'line\nline\n\nline\r\n\ttab', 'naïve café – “quotes” …', '日本語のテキスト', 'Привет, мир', 'emoji 🦦👩‍👩‍👧 done', '🦦', '\u0000\u0001\u007f', '▁literal mark▁',
  '<s>', '</s>', '<unk>', '<0x0A>', 'aaaaaaaaaaaaaaaa', '================', 'abababababab', '!!!???...,,,', "it's don't we'll", '1234567890 3.14159 2^10', ' '.repeat(40) + 'x' + ' '.repeat(17),
  '\ufeffbom', 'x\u200by', 'é vs e\u0301', 'SHOUTING and CamelCaseWords and snake_case_words',
];

/** Pseudo-random texts that provoke ties: few letters, runs, spaces, some multi-byte characters. */
function* fuzz(count: number, alphabet: string[]): Generator<string> {
  let state = 12345;
  const next = (n: number) => (state = Math.imul(state, 1664525) + 1013904223 >>> 0) / 2 ** 32 * n | 0;
  for (let i = 0; i < count; i++) {
    let text = '';
    for (let length = 1 + next(40); length > 0; length--) text += alphabet[next(alphabet.length)]!.repeat(next(4) === 0 ? 1 + next(6) : 1);
    yield text;
  }
}

const library = async (file: Uint8Array, size: number) =>
  new Tokenizer(JSON.parse(new TextDecoder().decode(await readLlama2cTokenizer(bytesSource('t.bin', file), size))), {});

async function compare(file: Uint8Array, vocabulary: Vocabulary, more: Iterable<string>): Promise<void> {
  const tokenizer = await library(file, vocabulary.pieces.length);
  for (const text of [...texts, ...more]) {
    assert.equal(tokenizer.encode(text).ids, encode(vocabulary, text), JSON.stringify(text));
  }
}

test('a synthetic vocabulary: scores, ties, byte fallback', async () => {
  const pieces = ['  ', '    ', '   ', 'aa', 'aaa', 'ab', 'aba', 'ba', 'bab', ' a', ' b', 'é', 'éa', ' ', 'a', 'b', '\t', '🦦'];
  const scores = [-1e9, -1e9, -1e9, -1, -2, -3, -4, -4.5, -5, -6, -7, -8, -9, -10, -11, -12, -13, -14];
  const file = tokenizerBin(pieces.map((text, i) => ({ text, score: scores[i]! })));
  await compare(file, readVocabulary(file, 259 + pieces.length), fuzz(400, ['a', 'b', ' ', 'é', 'z', '🦦']));
});

test('decoding gives the text back', async () => {
  const file = tokenizerBin(['a', 'b', ' ', ' a'].map((text, i) => ({ text, score: -i })));
  const tokenizer = await library(file, 263);
  for (const text of ['a b ab', ' leading', 'é🦦\n', 'b']) {
    assert.is(tokenizer.decode(tokenizer.encode(text).ids, { skip_special_tokens: true, clean_up_tokenization_spaces: false }), text);
  }
});

test('another size, a cut file, bytes that are no tokenizer: a typed error', async () => {
  const file = tokenizerBin([{ text: 'a', score: 0 }, { text: 'b', score: -1 }]);
  const fails = async (bytes: Uint8Array, size: number) => {
    try {
      await readLlama2cTokenizer(bytesSource('tokenizer.bin', bytes), size);
    } catch (error) {
      assert.instance(error, BadModelFileError);
      assert.match((error as BadModelFileError).message, 'tokenizer.bin');
      assert.ok((error as BadModelFileError).hint);
      return;
    }
    assert.unreachable(`${bytes.length} bytes for ${size} pieces`);
  };
  for (const size of [1, 259, 260, 262, 32000, 2 ** 24]) await fails(file, size);
  for (let length = 0; length < file.length; length++) await fails(file.subarray(0, length), 261);
  await fails(tokenizerBin([{ text: 'a'.repeat(257), score: 0 }]), 260);
  await fails(tokenizerBin([{ text: 'a', score: NaN }]), 260);
  await fails(tokenizerBin([{ text: 'a', score: 0 }, { text: 'a', score: 1 }]), 261);
  for (const at of [8, 12, 500]) {
    const bytes = file.slice();
    bytes[at]! ^= 0xff;
    await fails(bytes, 261);
  }
});

const shared = sharedDir();
const real = [
  ['models/stories260K/tok512.bin', 512, 'stories260K.bin'], ['models/stories3M/tok4096.bin', 4096, 'stories3M-q80.bin'], ['data/tokenizers/llama2c-tokenizer32000.bin', 32000, ''],
] as const;
for (const [path, size, model] of real) {
  if (!shared) {
    skip(test, path, 'LUTRA_SHARED is not set');
    continue;
  }
  test(`${path}: the ids of llama2.c`, async () => {
    const file = new Uint8Array(readFileSync(join(shared, path))), vocabulary = readVocabulary(file, size);
    const story = (JSON.parse(readFileSync(join(shared, 'data/text/eval-tinystories-20k.json'), 'utf8')) as string[])[0]!;
    const wiki = readFileSync(join(shared, 'data/text/wikitext-2-test.raw'), 'utf8').slice(0, 3000);
    await compare(file, vocabulary, [story, wiki, ...fuzz(300, ['a', 'b', ' ', ' ', 'e', 't', 'h', '=', '-', '\n', 'é', '你', '🦦', '.', '0', '1'])]);
    if (model) {
      const { runs } = JSON.parse(readFileSync(join(shared, 'models/expected-greedy.json'), 'utf8'))[model];
      const tokenizer = await library(file, size);
      for (const { prompt, prompt_ids } of runs) assert.equal(tokenizer.encode(prompt).ids, prompt_ids, prompt);
    }
  });
}

test.run();

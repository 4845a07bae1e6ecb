import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readGguf } from '../../src/formats/gguf.js';
import { readGgufTokenizer } from '../../src/formats/gguf-tokenizer.js';
import { openFile } from '../../src/platform/platform.js';
import { Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { sharedDir } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';

const test = suite('gguf tokenizers');
const shared = sharedDir();
const others = ['<|im_start|><s>', 'e\u0301 \u200b\ufeff\u0000', ' lead, trail ', '1½ ² Ⅷ ٣', '\r\n \r\t\n', '👩‍👩‍👧'];

async function openTokenizer(path: string): Promise<Tokenizer> {
  const file = await openFile(path);
  try {
    const { tokenizerJson, size, bosId } = readGgufTokenizer((await readGguf(file)).metadata, path);
    return new Tokenizer(tokenizerJson, { vocabSize: size, bosId, addBos: false }, path);
  } finally {
    await file.close();
  }
}

if (!shared) {
  skip(test, 'the vectors of llama.cpp', 'LUTRA_SHARED is not set');
} else {
  const data = join(shared, 'data/tokenizers');
  const vocabularies = {
    'ggml-vocab-gpt-2.gguf': join(data, 'ggml-vocab-gpt-2.gguf'),
    'ggml-vocab-llama-bpe.gguf': join(data, 'ggml-vocab-llama-bpe.gguf'),
    'ggml-vocab-qwen2.gguf': join(data, 'ggml-vocab-qwen2.gguf'),
    'ggml-vocab-llama-spm.gguf': join(data, 'ggml-vocab-llama-spm.gguf'),
    smollm2: join(shared, 'models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf'),
  };
  const text = readFileSync(join(shared, 'data/text/wikitext-2-test.raw'), 'utf8').slice(0, 1 << 20);
  for (const [name, path] of Object.entries(vocabularies)) {
    test(`${name}: the vectors of llama.cpp; any text comes back`, async () => {
      const tokenizer = await openTokenizer(path);
      const texts = readFileSync(join(data, `${name}.inp`), 'utf8').split('\n__ggml_vocab_test__\n');
      const ids = readFileSync(join(data, `${name}.out`), 'utf8').split('\n');
      assert.equal(texts.filter((one, i) => tokenizer.encode(one).join(' ') !== ids[i]!.trim()), []);
      for (const one of [...texts, ...others]) assert.is(tokenizer.decode(tokenizer.encode(one)), one);
    });
  }

  test('a megabyte in less than 2 s of processor time, by each of them', async () => {
    const needed: Record<string, number> = {};
    for (const [name, path] of Object.entries(vocabularies)) {
      // The better of two: what other programs do to caches counts as time of this one.
      for (let round = 0; round < 2; round++) {
        const tokenizer = await openTokenizer(path), begin = process.cpuUsage();
        tokenizer.encode(text);
        const { user, system } = process.cpuUsage(begin);
        needed[name] = Math.min(needed[name] ?? Infinity, (user + system) / 1e6);
      }
    }
    assert.ok(Object.values(needed).every(seconds => seconds < 2), JSON.stringify(needed));
  });

  // How long it takes is the machine's affair as well; that eight times the text takes about eight times as long is ours.
  test('a megabyte takes time in proportion', async () => {
    const seconds = async (part: string) => {
      const tokenizer = await openTokenizer(vocabularies.smollm2), begin = process.cpuUsage();
      const ids = tokenizer.encode(part), { user } = process.cpuUsage(begin);
      assert.is(tokenizer.decode(ids), part);
      return user / 1e6;
    };
    await seconds(text.slice(0, 1 << 15)); // optimising compiler
    const eighth = await seconds(text.slice(0, text.length >> 3)), whole = await seconds(text);
    assert.ok(whole < 8 * 3 * eighth, `${eighth} s for an eighth, ${whole} s for all`);
  });
}

test.run();

// serial
/** tokenizer.json files that do more than they should. */
import * as assert from 'uvu/assert';
import { Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { measure, type Attack } from './measured.js';

const vocab = Object.fromEntries(Array.from({ length: 64 }, (_, i) => [String.fromCharCode(64 + i), i]));
const base = { added_tokens: [] as object[], normalizer: null as object | null, pre_tokenizer: null as object | null, decoder: null, model: { type: 'BPE', vocab, merges: [] as unknown[] } };
const split = (Regex: string) => ({ ...base, pre_tokenizer: { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false } });
const open = (json: unknown) => new Tokenizer(new TextEncoder().encode(typeof json === 'string' ? json : JSON.stringify(json)), { vocabSize: 64, bosId: null, addBos: false }, 'file');

const refused: Record<string, unknown> = {
  'a repeated repetition': split('(A+)+$'),
  'a repeated choice': split('(?:A|AA)*$'),
  'a repeated option': split('(A?){40}A{40}'),
  'hidden deeper': split('((x|y(A*)))+$'),
  'in a sequence': { ...base, pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Split', pattern: { Regex: '(A+)+$' } }] } },
  'in a normaliser': { ...base, normalizer: { type: 'Replace', pattern: { Regex: '(A|A)*B' }, content: '' } },
  'a long pattern': split('A'.repeat(100_000)),
  'a pattern that is none': split('['),
  'steps in steps': { ...base, pre_tokenizer: JSON.parse(`${'{"type":"Sequence","pretokenizers":['.repeat(500)}${']}'.repeat(500)}`) },
  'steps in steps, too many for a parser': `{"pre_tokenizer":${'['.repeat(5_000_000)}`,
  'ids beyond the model': { ...base, model: { ...base.model, vocab: { A: 2 ** 31 } } },
  'an added token beyond the model': { ...base, added_tokens: [{ id: 2 ** 40, content: 'x', special: true }] },
  'an id that is none': { ...base, added_tokens: [{ id: -1, content: 'x', special: true }] },
  'merges of numbers': { ...base, model: { ...base.model, merges: [1, 2] } },
};

const attacks = Object.entries(refused).map(([name, json]): Attack => ({ name, read: () => { open(json).encode(`${'A'.repeat(60)}!`); }, code: 'BAD_MODEL_FILE', field: name === 'ids beyond the model' ? 'model.vocab' : 'tokenizer' }));

await measure('hostile tokenizers', import.meta.url, attacks, () => { open(base).encode('A'); }, test => {
  test('the patterns of models in use are none of these', () => {
    for (const pattern of [
      "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
      "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
      '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+', '\\d{1,3}(?=(?:\\d{3})*\\b)', ' ',
    ]) assert.is(open(split(pattern)).decode(open(split(pattern)).encode('AB')), 'AB', pattern);
  });

  test('a hundred thousand added tokens, one long text', () => {
    const many = { ...base, added_tokens: Array.from({ length: 100_000 }, (_, i) => ({ id: i % 64, content: `<${i}>`, special: true })) };
    const begin = process.cpuUsage();
    assert.is(open(many).encode('<99999>A'.repeat(10_000), { special: true }).length, 20_000);
    assert.ok(process.cpuUsage(begin).user / 1e6 < 4);
  });
});

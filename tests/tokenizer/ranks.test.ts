import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readTokenizerJson } from '../../src/formats/tokenizer-json.js';

const test = suite('ranks of merges');

test('as a map of strings has them: both ways to write a pair, parts without an id, the last of equal ones', () => {
  const parts = Array.from({ length: 40 }, (_, i) => `p${i}`), vocab = Object.fromEntries(parts.slice(0, 30).map((part, i) => [part, (7919 * i) % 2 ** 20]));
  const merges: (string | [string, string])[] = [], expected = new Map<string, number>();
  for (let i = 0, seed = 1; i < 600; i++) {
    const [left, right] = [0, 1].map(() => parts[(seed = seed * 48271 % 2147483647) % parts.length]!) as [string, string];
    merges.push(i % 2 ? [left, right] : `${left} ${right}`);
    expected.set(`${left} ${right}`, i);
  }
  assert.ok(expected.size < merges.length && expected.size < parts.length ** 2);
  const read = (model: object) => readTokenizerJson(new TextEncoder().encode(JSON.stringify({ model })), 'file', 'JSON').ranks();
  const all = [...parts, 'other'];
  for (const model of [{ vocab, merges }, { merges, vocab }]) {
    const ranks = read(model);
    for (const left of all) for (const right of all) assert.is(ranks.of(left, right), expected.get(`${left} ${right}`), `${left} ${right}`);
  }
  assert.is(read({ vocab, merges: [] }).of('p0', 'p1'), undefined);
  assert.is(read({ vocab }).of('p0', 'p1'), undefined);
});

test.run();

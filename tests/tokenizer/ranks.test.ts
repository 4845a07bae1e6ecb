import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Ranks } from '../../src/tokenizer/ranks.js';

const test = suite('ranks of merges');

test('as a map of strings has them: both ways to write a pair, parts without an id, the last of equal ones', () => {
  const parts = Array.from({ length: 40 }, (_, i) => `p${i}`), ids = new Map(parts.slice(0, 30).map((part, i) => [part, (7919 * i) % 2 ** 24]));
  const merges: (string | [string, string])[] = [], expected = new Map<string, number>();
  for (let i = 0, seed = 1; i < 600; i++) {
    const [left, right] = [0, 1].map(() => parts[(seed = seed * 48271 % 2147483647) % parts.length]!) as [string, string];
    merges.push(i % 2 ? [left, right] : `${left} ${right}`);
    expected.set(`${left} ${right}`, i);
  }
  assert.ok(expected.size < merges.length && expected.size < parts.length ** 2);
  const ranks = new Ranks(ids, merges);
  for (const left of [...parts, 'other']) for (const right of [...parts, 'other']) assert.is(ranks.of(left, right), expected.get(`${left} ${right}`), `${left} ${right}`);
  assert.is(new Ranks(ids, []).of('p0', 'p1'), undefined);
});

test.run();

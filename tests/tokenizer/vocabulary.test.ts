import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { MAX_ID, VocabularyBuilder, vocabularyOf } from '../../src/tokenizer/vocabulary.js';

const test = suite('vocabulary');
const UTF8 = new TextEncoder();

test('as a map has them: pieces of any length and script, ids in any order, gaps', () => {
  const pieces = ['', 'a', 'ab', 'é', '▁the', '🦦', '🦦🦦', '\u0000', 'x'.repeat(300), ...Array.from({ length: 5000 }, (_, i) => `p${i}`)];
  const expected = new Map<string, number>(), builder = new VocabularyBuilder(3 * pieces.join('').length, pieces.length);
  pieces.forEach((piece, i) => {
    const id = i === 0 ? MAX_ID - 1 : (7919 * i) % 20011, bytes = UTF8.encode(`<${piece}>`);
    builder.add(bytes, 1, bytes.length - 1, id);
    expected.set(piece, id);
  });
  const vocabulary = builder.finish();
  assert.is(vocabulary.count, MAX_ID);
  for (const [piece, id] of expected) {
    assert.is(vocabulary.get(piece), id, piece);
    assert.is(vocabulary.piece(id), piece);
  }
  for (const other of ['b', 'p5000', 'p', '🦦🦦🦦', 'x'.repeat(299), 'x'.repeat(301), 'x'.repeat(100_000), '\ud83e']) assert.is(vocabulary.get(other), undefined, other.slice(0, 20));
  assert.is(vocabulary.piece(20012), undefined);
  assert.is(vocabulary.piece(-1), undefined);
});

test('what is changed afterwards', () => {
  const vocabulary = vocabularyOf(['a', 'b', 'c']);
  vocabulary.delete('a');
  vocabulary.set('b', 7);
  vocabulary.set('new', 8);
  assert.equal(['a', 'b', 'c', 'new'].map(piece => vocabulary.get(piece)), [undefined, 7, 2, 8]);
  assert.equal(['a', 'b', 'c', 'new'].map(piece => vocabulary.has(piece)), [false, true, true, true]);
  assert.equal(['a', 'b', 'c', 'new'].map(piece => vocabulary.original(piece)), [0, 1, 2, undefined]);
  assert.equal([...vocabulary.pieces()], ['a', 'b', 'c']);
});

test('a piece that is there twice', () => {
  assert.is(vocabularyOf(['a', 'b', 'ab', 'A']).repeated, undefined);
  assert.equal(vocabularyOf(['a', 'b', 'a', 'c', 'b', 'a']).repeated, [2, 5]);
});

test('nothing at all', () => {
  const vocabulary = vocabularyOf([]);
  assert.is(vocabulary.count, 0);
  assert.is(vocabulary.get(''), undefined);
  assert.is(vocabulary.get('a'), undefined);
});

test.run();

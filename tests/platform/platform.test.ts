import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { dropBytes, largeBytes } from '../../src/platform/platform.js';

const test = suite('platform');

test('large blocks can be given back at once', () => {
  const large = largeBytes(1 << 20), part = large.subarray(100, 200);
  assert.is(large.length, 1 << 20);
  assert.ok(large.every(byte => byte === 0));
  large.fill(7);
  assert.is(part[99], 7);
  dropBytes(part);
  assert.is(large.buffer.byteLength, 0);
  assert.is(part[99], undefined);
});

test('small ones are as ever', () => {
  const small = largeBytes(1000).fill(7);
  assert.is(small.buffer.resizable, false);
  dropBytes(small);
  assert.is(small[999], 7);
  assert.is(largeBytes(0).length, 0);
});

test.run();

/** What a pass asks of a crew. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { compile } from '../../src/engine/instance.js';
import { Member } from '../../src/engine/member.js';
import { whole } from '../../src/engine/slices.js';
import { randomModel } from './models.js';

const test = suite('member');
const planes = { layout: 'planes', planes: 2, groupSize: 64, coding: 'i16' } as const;
const ternary = { layout: 'ternary', planes: 2, groupSize: 128, coding: 'none' } as const;

/** Joins of a pass over `m` rows: one before the layers, then those of each layer, and those of the logits. */
async function joins(format: typeof planes | typeof ternary, m: number, wanted: number): Promise<number> {
  const { name, header } = randomModel('joins', format, { nLayers: 3, headDim: 64, nHeads: 4, nHeadsKv: 2 });
  const member = new Member(await compile('simd'), { name, header, context: 64, kvType: 'f32', maxSessions: 1, reference: false, slice: whole }, false);
  return member.begin(Array.from({ length: m }, (_, position) => ({ session: 0, position, token: 5, wantLogits: position >= m - wanted })));
}

test('joins: five a layer for a token, seven for a chunk of a prompt; two more where an input has one scale', async () => {
  assert.is(await joins(planes, 1, 1), 1 + 3 * 5 + 1);
  assert.is(await joins(planes, 1, 0), 1 + 3 * 5);
  assert.is(await joins(planes, 8, 1), 1 + 3 * 7 + 1);
  assert.is(await joins(planes, 8, 2), 1 + 3 * 7 + 2);
  assert.is(await joins(ternary, 1, 1), 1 + 3 * 7 + 1);
  assert.is(await joins(ternary, 8, 8), 1 + 3 * 9 + 2);
});

test.run();

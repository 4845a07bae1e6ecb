/** A configuration that asks for more workspace than 32 bits can count must not wrap around to a little. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Layout, sizeOfLayer, sizeOfLinear, sizeOfModel, sizeOfPart, writeLayer, writeLinear, writeModel, writePart } from '../../src/generated/layout.js';
import { Bare } from './harness.js';

const test = suite('workspace');

function workspaceBytes(hiddenDim: number): number {
  const bare = new Bare('simd', 8), view = bare.view;
  const linear = (rows: number, cols: number) => {
    const part = bare.take(sizeOfPart), at = bare.take(sizeOfLinear);
    writePart(view, part, { layout: Layout.f32, planes: 0, groupSize: 0, coding: 0, colBegin: 0, cols, data: 0, rowScale: 0, tileBytes: 64 * cols });
    writeLinear(view, at, { rows, cols, nParts: 1, parts: part, rowScale: 0, bias: 0, firstRow: 0, byColumns: 0 });
    return at;
  };
  const dim = 64, square = linear(dim, dim), wide = linear(hiddenDim, dim), layers = bare.take(sizeOfLayer), model = bare.take(sizeOfModel);
  writeLayer(view, layers, { attnNorm: 0, q: square, k: square, v: square, qNorm: 0, kNorm: 0, attnSubNorm: 0, o: square, ffnNorm: 0, gate: wide, up: wide, ffnSubNorm: 0, down: linear(dim, hiddenDim) });
  writeModel(view, model, {
    dim, hiddenDim, nLayers: 1, nHeads: 1, nHeadsKv: 1, headDim: dim, vocabSize: 100, contextLength: 16, normEps: 1e-5, activation: 0,
    rope: 0, layers, embedding: square, norm: 0, head: linear(100, dim), reference: 0, rank: 0, ranks: 1, kvType: 0,
  });
  return bare.exports.workspaceBytes!(model) >>> 0;
}

test('counts in 64 bits and says "too much" as the largest number', () => {
  const small = workspaceBytes(1 << 16), large = workspaceBytes(1 << 18);
  assert.ok(small > 32 * 6 * 4 * (1 << 16) && large > 3.9 * small, `${small}, ${large}`);
  for (const hiddenDim of [1 << 23, 3 << 22, 1 << 24]) assert.is(workspaceBytes(hiddenDim), 2 ** 32 - 1);
});

test.run();

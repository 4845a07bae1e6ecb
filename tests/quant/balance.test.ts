import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BadModelFileError } from '../../src/errors.js';
import { importLlama2c } from '../../src/formats/llama2c.js';
import type { SourceModel } from '../../src/formats/source.js';
import { bytesSource } from '../../src/platform/platform.js';
import { balanced } from '../../src/quant/balance.js';
import { Forward, halves } from '../../src/quant/forward.js';
import { newMatrix, values, type Matrix } from '../../src/quant/matrix.js';
import { WeightReader } from '../../src/quant/weights.js';
import { floats, llama2cFile, tiny, tinyTokenizer } from '../formats/synthetic.js';
import { randomMatrix, withCrew } from './crew.js';
import type { Crew } from '../../src/quant/crew.js';

const test = suite('column scales');
const chunk = { first: 0, tokens: 6, sequences: [[1, 2, 3, 4, 5, 6]] };

async function source(extras: Record<string, number>): Promise<SourceModel> {
  const model = await importLlama2c(bytesSource('model', llama2cFile(tiny, 0)), async () => bytesSource('tokenizer', tinyTokenizer));
  Object.entries(extras).forEach(([name, length], i) => model.vectors.set(`layers.0.${name}`, floats(length, 50 + i).map(value => 1 + 0.3 * value)));
  return model;
}

async function read(crew: Crew, model: SourceModel, weights: WeightReader, name: string): Promise<Matrix> {
  const { rows, cols } = model.matrices.get(name)!, matrix = newMatrix(crew, rows, cols);
  await weights.read(name, values(crew, matrix));
  return matrix;
}

/** What the first layer makes of six tokens. */
async function outputOf(crew: Crew, model: SourceModel): Promise<Float32Array> {
  const forward = await Forward.create(crew, model, 8), weights = await WeightReader.create(model), { dim } = model.config;
  const x = randomMatrix(crew, 6, dim, 1);
  for (const half of halves(model.config).slice(0, 2)) {
    const n = newMatrix(crew, 6, dim), inner = newMatrix(crew, 6, half.inner), inputs: Matrix[] = [];
    await forward.norm(n, x, half.norm);
    for (const name of half.inputs) inputs.push(await read(crew, model, weights, name));
    await forward.inner(half, inner, n, inputs, chunk);
    await forward.output(half, x, inner, await read(crew, model, weights, half.output));
  }
  return values(crew, x).slice();
}

for (const [name, extras] of Object.entries({
  'as Llama has it': {}, 'biases': { 'attn.v.bias': 8, 'ffn.up.bias': 44 }, 'sub-norms': { 'attn.subNorm': 24, 'ffn.subNorm': 44 },
} as Record<string, Record<string, number>>)) {
  test(`the same function in other numbers: ${name}`, () => withCrew(async crew => {
    const model = await source(extras), other = await balanced(model);
    const want = await outputOf(crew, model), got = await outputOf(crew, other);
    assert.ok(want.every((value, i) => Math.abs(value - got[i]!) < 1e-4 * (1 + Math.abs(value))), `${want.slice(0, 4)}, ${got.slice(0, 4)}`);
    assert.is(other.provenance.columnScales, 'sinq');
  }));
}

test('a weight that is not finite is refused', async () => {
  const bytes = llama2cFile(tiny, 0);
  new Float32Array(bytes.buffer, 28)[(262 + 2) * tiny.dim + 100] = NaN;
  const error = await balanced(await importLlama2c(bytesSource('model', bytes), async () => bytesSource('tokenizer', tinyTokenizer))).catch(error => error);
  assert.instance(error, BadModelFileError);
});

test('columns become alike; a dead column and what the source has stay as they are', () => withCrew(async crew => {
  const model = await source({}), { dim } = model.config, bytes = llama2cFile(tiny, 0);
  const weights = await WeightReader.create(model), spread = (matrix: Matrix) => {
    const squares = new Float64Array(matrix.cols);
    values(crew, matrix).forEach((value, i) => { squares[i % matrix.cols]! += value * value; });
    const alive = squares.filter(square => square > 0);
    return Math.max(...alive) / Math.min(...alive);
  };
  // Column 3 of down large, column 5 dead: in a file of their own.
  const view = new Float32Array(bytes.buffer, 28), down = values(crew, await read(crew, model, weights, 'layers.0.ffn.down'));
  const at = view.findIndex((value, i) => value === down[0] && view[i + 1] === down[1] && view[i + 2] === down[2]);
  for (let row = 0; row < dim; row++) {
    view[at + row * 44 + 3]! *= 10;
    view[at + row * 44 + 5] = 0;
  }
  const uneven = await importLlama2c(bytesSource('model', bytes), async () => bytesSource('tokenizer', tinyTokenizer)), even = await balanced(uneven);
  const norm = uneven.vectors.get('layers.0.attn.norm')!.slice();
  const before = await read(crew, uneven, await WeightReader.create(uneven), 'layers.0.ffn.down'), after = await read(crew, even, await WeightReader.create(even), 'layers.0.ffn.down');
  assert.ok(spread(before) > 50 && spread(after) < spread(before) / 20, `${spread(before)}, ${spread(after)}`);
  assert.ok(values(crew, after).every(Number.isFinite));
  assert.equal(uneven.vectors.get('layers.0.attn.norm'), norm);
}));

test.run();

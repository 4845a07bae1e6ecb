import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { importLlama2c } from '../../src/formats/llama2c.js';
import type { SourceModel } from '../../src/formats/source.js';
import { bytesSource } from '../../src/platform/platform.js';
import type { Chunk } from '../../src/quant/activations.js';
import type { Crew } from '../../src/quant/crew.js';
import { Forward, halves, type Half } from '../../src/quant/forward.js';
import { copied, newMatrix, values, type Matrix } from '../../src/quant/matrix.js';
import { floats, llama2cFile, tiny, tinyTokenizer } from '../formats/synthetic.js';
import { randomMatrix, withCrew } from './crew.js';

const test = suite('layers');
const chunk: Chunk = { first: 0, tokens: 12, sequences: [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11, 12]] };

async function source(extras: Record<string, number>): Promise<SourceModel> {
  const model = await importLlama2c(bytesSource('model', llama2cFile(tiny, 0)), async () => bytesSource('tokenizer', tinyTokenizer));
  Object.entries(extras).forEach(([name, length], i) => model.vectors.set(`layers.0.${name}`, floats(length, 50 + i).map(value => 1 + 0.3 * value)));
  return model;
}

/** x + what the half adds. */
async function outputOf(crew: Crew, forward: Forward, half: Half, x: Matrix, inputs: Matrix[], output: Matrix): Promise<Float32Array> {
  return crew.within(async () => {
    const n = newMatrix(crew, x.rows, x.cols), inner = newMatrix(crew, x.rows, half.inner), y = copied(crew, x);
    await forward.norm(n, x, half.norm);
    await forward.inner(half, inner, n, inputs, chunk);
    await forward.output(half, y, inner, output);
    return values(crew, y).slice();
  });
}

for (const [name, extras] of Object.entries({
  'as Llama has it': {}, 'biases, norms of q and k': { 'attn.q.bias': 24, 'attn.o.bias': 24, 'attn.qNorm': 8, 'attn.kNorm': 8 }, 'sub-norms': { 'attn.subNorm': 24, 'ffn.subNorm': 44 },
} as Record<string, Record<string, number>>)) {
  test(`the gradient is the slope: ${name}`, () => withCrew(async crew => {
    const model = await source(extras), forward = await Forward.create(crew, model, 16);
    for (const half of halves(model.config).slice(0, 2)) {
      const x = randomMatrix(crew, 12, 24, 1), direction = floats(12 * 24, 2), pull = floats(12 * 24, 3);
      const inputs = half.inputs.map((one, i) => { const { rows, cols } = model.matrices.get(one)!; return randomMatrix(crew, rows, cols, 10 + i); });
      const output = randomMatrix(crew, 24, half.inner, 20), dOut = newMatrix(crew, 12, 24);
      values(crew, dOut).set(pull);
      const dx = copied(crew, dOut), seen: string[] = [];
      await forward.back(half, dx, dOut, x, inputs, output, chunk, async one => { seen.push(one); });
      assert.equal(seen, [half.output, ...half.inputs]);
      const slope = values(crew, dx).reduce((sum, value, i) => sum + value * direction[i]!, 0), step = 2 ** -9;
      const at = async (sign: number) => {
        const moved = copied(crew, x);
        values(crew, moved).forEach((value, i, all) => { all[i] = value + sign * step * direction[i]!; });
        return (await outputOf(crew, forward, half, moved, inputs, output)).reduce((sum, value, i) => sum + value * pull[i]!, 0);
      };
      const measured = (await at(1) - await at(-1)) / (2 * step);
      assert.ok(Math.abs(measured - slope) < 0.01 * Math.abs(slope) + 0.02, `${half.kind}: ${slope}, measured ${measured}`);
    }
  }));
}

test.run();

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { importLlama2c } from '../../src/formats/llama2c.js';
import { readRows, type SourceMatrix, type SourceModel } from '../../src/formats/source.js';
import { bytesSource } from '../../src/platform/platform.js';
import { sharedDir } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';
import { refused } from './attack.js';
import { llama2cFile, llama2cWeights, tiny, tinyTokenizer, type TinyShape } from './synthetic.js';

const open = (file: Uint8Array, tokenizer: Uint8Array = tinyTokenizer) =>
  importLlama2c(bytesSource('model.bin', file), async () => bytesSource('tokenizer.bin', tokenizer));

/** Rows as numbers. */
async function values(matrix: SourceMatrix): Promise<Float32Array> {
  const codes = await readRows(matrix.codes, 0, matrix.rows, matrix.name);
  if (matrix.encoding === 'f32') return new Float32Array(codes.buffer);
  const scales = new Float32Array((await readRows(matrix.scales!, 0, matrix.rows, matrix.name)).buffer), perRow = scales.length / matrix.rows;
  return Float32Array.from(new Int8Array(codes.buffer), (code, i) => {
    const row = Math.floor(i / matrix.cols), phase = matrix.phase!(row);
    return code * scales[row * perRow + Math.floor((phase + i % matrix.cols) / matrix.param!)]!;
  });
}

/** The tensor as the file has it, its q and k rows reordered to half-split by definition. */
function expected(shape: TinyShape, name: string, untied: boolean): Float32Array {
  const match = /^layers\.(\d+)\.(.+)$/.exec(name), all = llama2cWeights(shape, untied)[match ? match[2]! : name]!;
  if (!match) return all;
  const size = all.length / shape.nLayers, layer = all.subarray(Number(match[1]) * size, (Number(match[1]) + 1) * size);
  if (!name.endsWith('.q') && !name.endsWith('.k')) return layer;
  const headDim = shape.dim / shape.nHeads, out = new Float32Array(size), cols = shape.dim;
  for (let head = 0; head < size / cols / headDim; head++) {
    for (let i = 0; i < headDim / 2; i++) {
      const from = (row: number) => layer.subarray((head * headDim + row) * cols, (head * headDim + row + 1) * cols);
      out.set(from(2 * i), (head * headDim + i) * cols);
      out.set(from(2 * i + 1), (head * headDim + headDim / 2 + i) * cols);
    }
  }
  return out;
}

for (const version of [0, 1, 2] as const) {
  for (const untied of [false, true]) {
    test(`version ${version}, ${untied ? 'own' : 'shared'} classifier: config, every matrix and norm`, async () => {
      for (const group of version === 2 ? [8, 4, 12, 16, 48] : [0]) {
        const model = await open(llama2cFile(tiny, version, { untied, group }));
        assert.equal(model.config, {
          architecture: 'llama', dim: 24, hiddenDim: 44, nLayers: 2, nHeads: 3, nHeadsKv: 1, headDim: 8, vocabSize: 262, contextLength: 16,
          normEps: 1e-5, ropeTheta: 10000, ropeScaling: null, slidingWindow: null, activation: 'silu', tiedHead: !untied, bosId: 1, eosIds: [1, 2], addBos: true,
        });
        assert.is(model.matrices.size, 1 + 7 * 2 + (untied ? 1 : 0));
        for (const [name, matrix] of model.matrices) {
          const want = expected(tiny, name, untied), got = await values(matrix);
          assert.is(got.length, matrix.rows * matrix.cols);
          // Q8_0 is off by half a step of its group at most.
          const tolerance = version === 2 ? Math.max(...want.map(Math.abs)) / 250 : 0;
          want.forEach((value, i) => assert.ok(Math.abs(got[i]! - value) <= tolerance, `${name}[${i}], group ${group}: ${got[i]} for ${value}`));
        }
        for (const [name, norm] of model.vectors) assert.equal(norm, expected(tiny, name, untied).slice(), name);
        await model.close();
      }
    });
  }
}

test('parts of a matrix are what the whole has there', async () => {
  const { matrices } = await open(llama2cFile(tiny, 2, { group: 12 }));
  for (const { codes, scales, rows } of matrices.values()) {
    for (const bytes of [codes, scales!]) {
      const whole = await readRows(bytes, 0, rows, '');
      for (const [begin, count] of [[0, 1], [3, 5], [rows - 2, 2]] as const) {
        assert.equal(await readRows(bytes, begin, count, ''), whole.slice(begin * bytes.length, (begin + count) * bytes.length));
      }
    }
  }
});

test('a file cut at any byte', async () => {
  for (const version of [0, 1, 2] as const) {
    const file = llama2cFile(tiny, version), step = version === 0 ? 97 : 61;
    for (let length = 0; length < file.length; length += length < 300 ? 1 : step) await refused(() => open(file.subarray(0, length)), 'model.bin', `version ${version} cut at ${length}`);
    await refused(() => open(file.subarray(0, file.length - 1)), 'model.bin', 'without its last byte');
    await refused(() => open(Uint8Array.from([...file, 0])), 'model.bin', 'with a byte too many');
  }
});

test('absurd sizes, unknown versions', async () => {
  for (const version of [0, 1, 2] as const) {
    const fields = version === 0 ? 0 : 8;
    for (let field = 0; field < 7; field++) {
      for (const value of [0, -1, 1, 3, 5, 7, 2 ** 16, 2 ** 24, 2 ** 30, 2 ** 31 - 1, -(2 ** 31)]) {
        const file = llama2cFile(tiny, version), view = new DataView(file.buffer);
        const before = view.getInt32(fields + 4 * field, true);
        if (Math.abs(before) === Math.abs(value)) continue;
        view.setInt32(fields + 4 * field, value, true);
        // A longer or shorter context changes nothing but itself where no tables of angles are stored.
        if (version > 0 && field === 6 && value >= 1 && value <= 2 ** 24) continue;
        await refused(() => open(file), value === 261 ? '.bin' : 'model.bin', `version ${version}, field ${field} = ${value}`);
      }
    }
  }
  const file = llama2cFile(tiny, 1);
  for (const version of [0, 3, -1, 2 ** 31 - 1]) {
    new DataView(file.buffer).setInt32(4, version, true);
    await refused(() => open(file), 'model.bin', `version ${version}`);
  }
  for (const group of [0, -8, 7, 2 ** 31 - 1]) {
    const q8 = llama2cFile(tiny, 2);
    new DataView(q8.buffer).setInt32(37, group, true);
    await refused(() => open(q8), 'model.bin', `group ${group}`);
  }
});

test('a tokenizer of another size', async () => {
  await refused(() => open(llama2cFile({ ...tiny, vocabSize: 300 }, 0)), 'tokenizer.bin', 'too few pieces');
  await refused(() => open(llama2cFile({ ...tiny, vocabSize: 260 }, 0)), 'tokenizer.bin', 'too many pieces');
});

const shared = sharedDir();
if (!shared) {
  skip(test, 'stories260K in three versions', 'LUTRA_SHARED is not set');
} else {
  test('stories260K: the same weights in three versions', async () => {
    const folder = join(shared, 'models/stories260K'), tokenizer = readFileSync(join(folder, 'tok512.bin'));
    const [v0, v1, v2] = await Promise.all(['stories260K.bin', 'stories260K_v1.bin', 'stories260K_q80.bin'].map(name => open(readFileSync(join(folder, name)), tokenizer))) as
      [SourceModel, SourceModel, SourceModel];
    assert.equal(v0.config, v1.config);
    assert.equal(v0.config, v2.config);
    for (const [name, matrix] of v0.matrices) {
      const want = await values(matrix), q8 = await values(v2.matrices.get(name)!);
      assert.equal(await values(v1.matrices.get(name)!), want, name);
      const error = Math.sqrt(q8.reduce((sum, value, i) => sum + (value - want[i]!) ** 2, 0) / want.reduce((sum, value) => sum + value * value, 0));
      assert.ok(error < 0.01, `${name}: relative error ${error}`);
    }
    assert.equal([...v0.vectors], [...v1.vectors]);
  });
}

test.run();

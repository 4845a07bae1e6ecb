import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BadArgumentError, BadModelFileError } from '../../src/errors.js';
import { importLlama2c } from '../../src/formats/llama2c.js';
import { partBorders, readPackedHeader, tileBytes } from '../../src/formats/packed.js';
import type { SourceModel } from '../../src/formats/source.js';
import { Packers } from '../../src/pack/packers.js';
import { unpack } from '../../src/pack/unpack.js';
import { bytesSource, openFile } from '../../src/platform/platform.js';
import { values } from '../../src/quant/matrix.js';
import { quantizeModel, type QuantizeModelOptions } from '../../src/quant/model.js';
import { noMetric, recipes, roundMatrix, type Format } from '../../src/quant/rounding.js';
import { partFormat, tilesOf } from '../../src/quant/tiles.js';
import { llama2cFile, llama2cWeights, tinyTokenizer, type TinyShape } from '../formats/synthetic.js';
import { randomMatrix, withCrew } from './crew.js';

const test = suite('quantised models');
const shape: TinyShape = { dim: 96, hiddenDim: 136, nLayers: 2, nHeads: 6, nHeadsKv: 2, vocabSize: 262, contextLength: 64 };
const file = llama2cFile(shape, 0);
const open = (bytes = file) => importLlama2c(bytesSource('model.bin', bytes), async () => bytesSource('tokenizer.bin', tinyTokenizer));

let folder: string, text: string;
test.before(() => {
  folder = mkdtempSync(join(tmpdir(), 'lutra-quant-'));
  text = join(folder, 'texts.json');
  writeFileSync(text, JSON.stringify(['ab ba abba', 'a b a b aab', 'bbbb ab a'.repeat(20), 'baba']));
});
test.after(() => rmSync(folder, { recursive: true }));

const defaults = (): QuantizeModelOptions => ({ method: 'best', bits: 2, calibration: [text], calibrationTokens: 200, threads: 1, resume: false });
async function made(name: string, changes: Partial<QuantizeModelOptions>, source?: SourceModel): Promise<Buffer> {
  const output = join(folder, name);
  const stats = await quantizeModel(source ?? await open(), output, { ...defaults(), ...changes });
  assert.not.ok(existsSync(`${output}.partial`));
  const bytes = readFileSync(output);
  assert.is(stats.bytesOut, bytes.length);
  return bytes;
}
async function refusal(changes: Partial<QuantizeModelOptions>, source?: SourceModel): Promise<any> {
  try {
    await quantizeModel(source ?? await open(), join(folder, 'refused'), { ...defaults(), ...changes });
  } catch (error) {
    assert.equal(readdirSync(folder).filter(name => name.startsWith('refused')), []);
    return error;
  }
  assert.unreachable(JSON.stringify(changes));
}

test('every method: the same bytes with 1 and 3 threads, the formats asked for', async () => {
  for (const [changes, layout] of [
    [{ method: 'best', bits: 2 }, 'uniform'], [{ method: 'best', bits: 2.5 }, 'uniform'], [{ method: 'gptq', bits: 3, groupSize: 64 }, 'uniform'],
    [{ method: 'elutq', bits: 2 }, 'planes'], [{ method: 'rtn', bits: 4, calibration: [] }, 'uniform'],
  ] as [Partial<QuantizeModelOptions>, string][]) {
    const one = await made('one', { ...changes, threads: 1 }), three = await made('three', { ...changes, threads: 3 });
    assert.ok(one.equals(three), JSON.stringify(changes));
    const { linears, provenance } = await readPackedHeader(bytesSource('one', one));
    assert.is(provenance.method, changes.method);
    const layers = Object.entries(linears).filter(([name]) => name.startsWith('layers.'));
    assert.ok(layers.every(([, { parts }]) => parts[0]!.layout === layout));
    const planes = layers.map(([, { rows, cols, parts }]) => ({ weights: rows * cols, planes: parts[0]!.planes })), all = planes.reduce((sum, { weights }) => sum + weights, 0);
    const mean = planes.reduce((sum, one) => sum + one.weights * one.planes, 0) / all;
    assert.ok(mean <= changes.bits! && mean > changes.bits! - 0.2, `${mean}`);
    if (changes.bits === 2.5) assert.ok(new Set(planes.map(one => one.planes)).size > 1);
  }
});

test('tiles of a rounded matrix: unpacked, what the codes mean', () => withCrew(async crew => {
  const packers = await Packers.create(), shape = { name: 'layers.0.ffn.down', rows: 40, cols: 300, segmented: true };
  for (const format of [{ levels: 'uniform', planes: 2, groupSize: 32, sixBit: true }, { levels: 'uniform', planes: 3, groupSize: 64, sixBit: true }, { levels: 'planes', planes: 2, groupSize: 64, sixBit: false }] as Format[]) {
    await crew.within(async () => {
      const w = randomMatrix(crew, shape.rows, shape.cols, 1), rounded = await roundMatrix(crew, w, noMetric(crew, shape.cols), null, 0, format, { ...recipes.rtn, search: { ...recipes.rtn.search, rounds: 5 } });
      const want = values(crew, w).slice(), { rowScale, parts } = tilesOf(packers, shape, format, rounded, want);
      const borders = partBorders(shape.cols, partFormat(format), true), bytes = parts.map((_, i) => tileBytes(partFormat(format), borders[i + 1]! - borders[i]!));
      for (let row = 0; row < shape.rows; row++) {
        const tile = Math.floor(row / 16), scales = rowScale.slice(64 * tile, 64 * (tile + 1));
        for (const [i, part] of parts.entries()) {
          const info = { ...partFormat(format), colBegin: borders[i]!, colEnd: borders[i + 1]!, tensor: '' };
          const got = packers.unpackTile(info, part.subarray(tile * bytes[i]!, (tile + 1) * bytes[i]!), scales);
          for (let col = borders[i]!; col < borders[i + 1]!; col++) {
            const difference = got[16 * (col - borders[i]!) + row % 16]! - want[row * shape.cols + col]!;
            assert.ok(Math.abs(difference) < (format.sixBit ? 1e-6 : 1e-3), `${format.levels} [${row}, ${col}]: ${difference}`);
          }
        }
      }
    });
  }
}));

test('a size in bytes is kept', async () => {
  const least = (await made('least', { bits: 2 })).length, size = least + 20_000;
  const bytes = await made('sized', { bits: undefined as never, size });
  assert.ok(bytes.length <= size && bytes.length > least, `${bytes.length} of ${size}`);
  assert.instance(await refusal({ bits: undefined as never, size: 10_000 }), BadArgumentError);
});

test('interrupted and resumed: the same bytes, and nothing under the name before', async () => {
  const whole = await made('whole', { bits: 2.5 }), output = join(folder, 'resumed'), reason = new Error('enough');
  const controller = new AbortController();
  const stopped = quantizeModel(await open(), output, {
    ...defaults(), bits: 2.5, signal: controller.signal,
    onProgress: (phase, done) => { if (phase === 'quantising' && done === 3) controller.abort(reason); },
  });
  assert.is(await stopped.catch(error => error), reason);
  assert.not.ok(existsSync(output));
  const other = await quantizeModel(await open(), output, { ...defaults(), bits: 3, resume: true }).catch(error => error);
  assert.instance(other, BadArgumentError);
  const phases: string[] = [];
  const resumed = await made('resumed', { bits: 2.5, resume: true, threads: 2, onProgress: (phase, done) => phases.push(`${phase} ${done}`) });
  assert.ok(resumed.equals(whole));
  assert.not.ok(phases.includes('measuring 1'));
  assert.is(phases.find(phase => phase.startsWith('quantising')), 'quantising 3');
  assert.instance(await refusal({ resume: true }), BadArgumentError);
});

test('abort before the first layer is done: nothing is left', async () => {
  const reason = new Error('enough');
  assert.is(await refusal({ signal: AbortSignal.abort(reason) }), reason);
});

test('a dead input, a constant row, fewer tokens than columns: a sound result', async () => {
  const { dim } = shape, source = await open();
  // The norm makes input 3 of the first layer dead; the first row of `up` is one number.
  source.vectors.get('layers.0.attn.norm')![3] = 0;
  const bytes = file.slice(), weights = new Float32Array(bytes.buffer, 28), up = llama2cWeights(shape)['ffn.up']!.length;
  const begin = weights.length - shape.contextLength * (dim / shape.nHeads) - dim - up;
  weights.fill(0.5, begin, begin + dim);
  const constant = await open(bytes);
  for (const one of [source, constant]) {
    const packed = await made('sound', { calibrationTokens: 20 }, one);
    const plain = await unpack(bytesSource('sound', packed)), { tensors, dataOffset } = await readPackedHeader(bytesSource('plain', plain));
    for (const [name, { begin, end }] of Object.entries(tensors)) {
      if (!name.startsWith('layers.')) continue;
      assert.ok(new Float32Array(plain.slice(dataOffset + begin, dataOffset + end).buffer).every(Number.isFinite), name);
    }
    if (one === source) continue;
    const { begin: at } = tensors['layers.0.ffn.up.0']!, row = new Float32Array(plain.slice(dataOffset + at, dataOffset + at + 64 * dim).buffer).filter((_, i) => i % 16 === 0);
    // Its target is not quite constant: it makes up for what its inputs lack.
    assert.ok(row.every(value => Math.abs(value - 0.5) < 0.15), `${row}`);
  }
});

test('weights that are not finite, texts that are none, bits out of range are refused', async () => {
  for (const [offset, value] of [[28 + 4 * (262 + 2) * shape.dim + 400, NaN], [28, Infinity]] as const) {
    const bytes = file.slice();
    new DataView(bytes.buffer).setFloat32(offset, value, true);
    for (const method of ['best', 'rtn'] as const) {
      const error = await refusal({ method, calibration: method === 'rtn' ? [] : [text] }, await open(bytes));
      assert.instance(error, BadModelFileError, `${error}`);
      assert.is(error.path, 'model.bin');
    }
  }
  const empty = join(folder, 'empty.txt');
  writeFileSync(empty, '');
  for (const changes of [{ calibration: [] }, { calibration: [empty] }, { bits: 5 }, { bits: 1.5 }, { method: 'elutq', bits: 2.5 }] as Partial<QuantizeModelOptions>[]) {
    assert.instance(await refusal(changes), BadArgumentError, JSON.stringify(changes));
  }
  assert.is((await refusal({ calibration: [join(folder, 'missing.txt')] })).code, 'FILE_ACCESS');
});

test('what the model says itself is a calibration too, mixed with text', async () => {
  const phases = new Set<string>();
  const options = { calibration: [text, 'self'], calibrationTokens: 300, onProgress: (phase: string) => { phases.add(phase); } };
  const one = await made('self', options), two = await made('self', { ...options, threads: 2 });
  assert.ok(phases.has('sampling'));
  assert.ok(one.equals(two));
  const source = await openFile(join(folder, 'self'));
  await readPackedHeader(source);
  await source.close();
});

test.run();

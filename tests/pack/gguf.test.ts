import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadModel } from 'lutra';
import { BadArgumentError, BadModelFileError } from '../../src/errors.js';
import { importGguf } from '../../src/formats/gguf-model.js';
import { readPackedHeader } from '../../src/formats/packed.js';
import { adjacentPairRow, type Encoding } from '../../src/formats/source.js';
import { blocksOf } from '../../src/pack/encodings.js';
import { pack, type PackOptions } from '../../src/pack/pack.js';
import { MemorySink } from '../../src/pack/sink.js';
import { unpack } from '../../src/pack/unpack.js';
import { bytesSource } from '../../src/platform/platform.js';
import { decodeRows, halfToNumber } from '../assembly/reference.js';
import { blockTypes, decodeBlocks } from '../formats/gguf-blocks.js';
import { ggufFile, tinyParts, wide, type Parts } from '../formats/gguf-file.js';

const test = suite('packing GGUF');

async function packed(parts: Parts, options: PackOptions = { threads: 1 }) {
  const sink = new MemorySink(), stats = await pack(await importGguf(bytesSource('model.gguf', ggufFile(parts))), options, sink);
  return { bytes: sink.bytes, stats, header: await readPackedHeader(bytesSource('packed', sink.bytes)) };
}

type Packed = Awaited<ReturnType<typeof packed>>;

function rowsOf({ bytes, header: { linears, tensors, dataOffset } }: Pick<Packed, 'bytes' | 'header'>, name: string): Float64Array[] {
  const { rows, cols, parts, rowScale } = linears[name]!;
  const tensor = (one: string) => bytes.slice(dataOffset + tensors[one]!.begin, dataOffset + tensors[one]!.end);
  return decodeRows(parts[0]!, parts.map(part => tensor(part.tensor)), tensor(rowScale), rows, cols, parts.length > 1);
}

/** One layer of each shape. */
const linears = ['attn.q', 'attn.k', 'attn.v', 'ffn.down'] as const;

/** The weights of a tensor by its type's definition, and where a row of the packed layer is found in it. */
function expected(parts: Parts, type: string, name: string): { values: Float32Array; row: (r: number) => number } {
  const { bytes } = parts.tensors.find(tensor => tensor.name === `blk.0.${name.replace('.', '_')}.weight`)!;
  const values = blockTypes[type] ? decodeBlocks(type, bytes)
    : type === 'F32' ? new Float32Array(bytes.slice().buffer)
    : Float32Array.from(new Uint16Array(bytes.slice().buffer), half => type === 'F16' ? halfToNumber(half) : new Float32Array(Uint32Array.of(half << 16).buffer)[0]!);
  return { values, row: /[qk]$/.test(name) ? r => adjacentPairRow(r, 64) : r => r };
}

for (const type of [...Object.keys(blockTypes), 'F32', 'F16', 'BF16']) {
  test(`${type}: packed exactly`, async () => {
    const parts = tinyParts(type, wide, { embedding: 'Q8_0' }), one = await packed(parts);
    assert.is(one.stats.bits, 'exact');
    assert.is(one.header.provenance.method, 'exact');
    const format = blocksOf({ encoding: type.toLowerCase() as Encoding })?.exact ?? { layout: 'f32', coding: 'none' };
    for (const linear of linears) {
      const name = `layers.0.${linear}`, { parts: [part], cols } = one.header.linears[name]!;
      assert.equal([part!.layout, part!.coding], [format.layout, format.coding]);
      const { values, row } = expected(parts, type, linear);
      const wrong = rowsOf(one, name).findIndex((weights, r) => weights.some((weight, k) => Math.fround(weight) !== values[row(r) * cols + k]));
      assert.is(wrong, -1, `${linear}: row ${wrong}`);
    }
    const embedding = decodeBlocks('Q8_0', parts.tensors[0]!.bytes);
    assert.is(one.header.linears.embedding!.parts[0]!.layout, 'int8');
    assert.ok(rowsOf(one, 'embedding').every((weights, r) => weights.every((weight, k) => weight === embedding[256 * r + k])));
  });
}

test('unpacked: the same weights', async () => {
  for (const type of Object.keys(blockTypes)) {
    const one = await packed(tinyParts(type, wide)), bytes = await unpack(bytesSource('packed', one.bytes));
    const plain = { bytes, header: await readPackedHeader(bytesSource('unpacked', bytes)) };
    for (const name of ['embedding', 'layers.0.ffn.down']) {
      const rows = rowsOf(plain, name);
      assert.ok(rowsOf(one, name).every((weights, r) => weights.every((weight, k) => Math.fround(weight) === rows[r]![k])), `${type}: ${name}`);
    }
  }
});

test('the same bytes for any number of workers', async () => {
  for (const type of ['Q4_1', 'TQ2_0', 'Q6_K']) {
    const [one, three] = [await packed(tinyParts(type, wide), { threads: 1 }), await packed(tinyParts(type, wide), { threads: 3 })];
    assert.ok(Buffer.compare(one.bytes, three.bytes) === 0, type);
  }
});

test('a small model that is only re-arranged needs no worker: the same bytes, and an abort is heeded', async () => {
  const workers = () => process.getActiveResourcesInfo().filter(kind => kind === 'MessagePort').length, before = workers();
  for (const type of ['Q4_K', 'TQ2_0', 'Q8_0']) {
    const parts = tinyParts(type, wide, { embedding: 'Q8_0' }), seen: number[] = [];
    const alone = await packed(parts, { onProgress: () => seen.push(workers()) });
    assert.ok(seen.length > 0 && seen.every(count => count === before), `${type}: ${seen}`);
    assert.ok(Buffer.compare((await packed(parts)).bytes, alone.bytes) === 0, type);
  }
  const reason = new Error('enough'), controller = new AbortController();
  const options = { signal: controller.signal, onProgress: () => controller.abort(reason) };
  assert.is(await packed(tinyParts('Q4_K', wide, { embedding: 'Q8_0' }), options).catch(error => error), reason);
});

test('into shared memory, where the sink has some: the same bytes', async () => {
  for (const type of ['Q4_0', 'Q6_K', 'Q8_0', 'TQ2_0', 'F16']) {
    const parts = tinyParts(type, wide), { bytes } = await packed(parts);
    let file = new Uint8Array(new SharedArrayBuffer(0)), placed = 0;
    await pack(await importGguf(bytesSource('model.gguf', ggufFile(parts))), { threads: 2 }, {
      async begin(size) { file = new Uint8Array(new SharedArrayBuffer(size)); },
      async write(some, offset) { file.set(some, offset); },
      async place(offset, length) { placed += length; return file.subarray(offset, offset + length); },
      async finish() {}, async abort() {},
    });
    assert.ok(placed > bytes.length / 2 && Buffer.from(file).equals(bytes), type);
  }
});

test('a scale that is not finite is found, whatever becomes of it', async () => {
  for (const [type, i] of [['Q4_0', 0], ['Q4_K', 0], ['Q4_K', 1], ['Q6_K', 0], ['Q8_0', 0], ['TQ1_0', 0]] as const) {
    const parts = tinyParts(type, wide), { bytes } = parts.tensors.find(({ name }) => name === 'blk.0.ffn_up.weight')!;
    bytes.set([0x00, 0x7c], bytes.length - blockTypes[type]!.bytes + blockTypes[type]!.halves[i]!);
    for (const options of [{}, { bits: 8 }] as const) {
      try {
        await packed(parts, options);
        assert.unreachable(type);
      } catch (error) {
        assert.ok(error instanceof BadModelFileError && error.field === 'blk.0.ffn_up.weight', `${type}: ${error}`);
      }
    }
  }
});

const kernels: Record<string, string> = {
  Q4_0: 'uniform4-f16mid-lut8', Q4_1: 'uniform4-f16-lut8', Q5_0: 'uniform5-f16mid-lut8', Q5_1: 'uniform5-f16-lut8', Q8_0: 'int8-f16',
  Q2_K: 'uniform2-k4-lut7', Q3_K: 'uniform3-k8-exact', Q4_K: 'uniform4-k6-lut8', Q5_K: 'uniform5-k6-lut8', Q6_K: 'uniform6-k8-lut8',
  TQ1_0: 'ternary-f16', TQ2_0: 'ternary-f16',
};

test('the engine runs them: nearly the probabilities that the same weights give at f32', async () => {
  const ids = Array.from({ length: 24 }, (_, i) => (i * 37 + 5) % 256);
  const score = async (type: string, options: PackOptions) => {
    await using model = await loadModel((await packed(tinyParts(type, wide, { embedding: type }), options)).bytes, { threads: 1 });
    return { kernels: Object.keys(model.info().kernels).join(), logProbabilities: (await model.score(ids)).logProbabilities };
  };
  for (const type of Object.keys(blockTypes)) {
    const kernel = kernels[type]!;
    const exact = await score(type, {}), plain = await score(type, { bits: 'f32' });
    assert.is(exact.kernels, kernel);
    const square = (values: Float64Array) => values.reduce((sum, value) => sum + value * value, 0);
    const error = Math.sqrt(square(exact.logProbabilities.map((value, i) => value - plain.logProbabilities[i]!)) / square(plain.logProbabilities));
    assert.ok(error < (kernel === 'int8-f16' ? 1e-3 : 0.1), `${type}: ${error}`);
  }
});

test('other levels re-quantise when asked', async () => {
  const parts = tinyParts('Q4_1', wide);
  for (const [bits, layout] of [[8, 'int8'], [2, 'planes'], ['ternary', 'ternary'], ['f32', 'f32']] as const) {
    const { header: { linears: all, provenance } } = await packed(parts, { bits });
    assert.is(all['layers.0.ffn.up']!.parts[0]!.layout, layout);
    assert.is(provenance.method === 'exact', bits === 'f32');
  }
  // What is ternary already stays what it is.
  const ternary = await packed(tinyParts('TQ1_0', wide), { bits: 'ternary' });
  assert.equal([ternary.header.linears['layers.0.ffn.up']!.parts[0]!.coding, ternary.header.provenance.method], ['f16', 'exact']);
});

test('an embedding with one scale a row; options that would change nothing are refused', async () => {
  const { header } = await packed(tinyParts('Q4_0', wide), { embedding: 'int8' });
  assert.equal([header.linears.embedding!.parts[0]!.layout, header.linears['layers.0.attn.q']!.parts[0]!.layout], ['int8', 'uniform']);
  for (const options of [{ groupSize: 32 }, { coding: 'f16' }, { embedding: 'f16' }, { bits: 'exact', groupSize: 64 }] as PackOptions[]) {
    try {
      await packed(tinyParts('Q4_0', wide), options);
      assert.unreachable(JSON.stringify(options));
    } catch (error) {
      assert.ok(error instanceof BadArgumentError, `${error}`);
    }
  }
});

test.run();

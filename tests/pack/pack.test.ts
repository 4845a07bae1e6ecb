import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BadArgumentError, BadModelFileError, FileAccessError } from '../../src/errors.js';
import { importHuggingFace } from '../../src/formats/hf.js';
import { importLlama2c } from '../../src/formats/llama2c.js';
import { readPackedHeader } from '../../src/formats/packed.js';
import type { SourceModel } from '../../src/formats/source.js';
import type { PackedHeader } from '../../src/formats/types.js';
import { pack, type Bits, type PackOptions } from '../../src/pack/pack.js';
import { MemorySink } from '../../src/pack/sink.js';
import { unpack } from '../../src/pack/unpack.js';
import { bytesSource, fileSink, openFile } from '../../src/platform/platform.js';
import { loadModel } from 'lutra';
import { decodeRows } from '../assembly/reference.js';
import { bitnetConfig, bitnetTensors, hfFolder, trit } from '../formats/hf-folder.js';
import { llama2cFile, llama2cWeights, tiny, tinyTokenizer, type TinyShape } from '../formats/synthetic.js';
import { sharedDir } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';

const levels = ['f32', 8, 4, 3, 2, 1, 'ternary'] as const satisfies Bits[];
const open = (file: Uint8Array = llama2cFile(tiny, 0)) => importLlama2c(bytesSource('model.bin', file), async () => bytesSource('tokenizer.bin', tinyTokenizer));
const header = (bytes: Uint8Array) => readPackedHeader(bytesSource('packed', bytes));

async function packed(source: SourceModel, options: PackOptions = {}): Promise<Uint8Array> {
  const sink = new MemorySink();
  const stats = await pack(source, options, sink);
  assert.is(stats.bytesOut, sink.bytes.length);
  assert.is(stats.bytesIn, source.bytes);
  return sink.bytes;
}

/** Rows of a linear layer, by the document's definition. */
function rowsOf(bytes: Uint8Array, { linears, tensors, dataOffset }: PackedHeader, name: string): Float64Array[] {
  const { rows, cols, parts, rowScale } = linears[name]!;
  const tensor = (one: string) => bytes.slice(dataOffset + tensors[one]!.begin, dataOffset + tensors[one]!.end);
  return decodeRows(parts[0]!, parts.map(part => tensor(part.tensor)), tensor(rowScale), rows, cols, parts.length > 1);
}

/** Wide enough for column segments. */
const wide: TinyShape = { ...tiny, dim: 240, hiddenDim: 600, nLayers: 1, nHeads: 6, nHeadsKv: 2, vocabSize: 262 };

test('every level: sizes, errors that shrink with the bits, the same bytes for 1, 2 and 3 workers', async () => {
  const file = llama2cFile(wide, 0), exact = await packed(await open(file), { bits: 'f32' }), name = 'layers.0.ffn.down';
  const want = rowsOf(exact, await header(exact), name), square = (rows: Float64Array[]) => rows.reduce((sum, row) => sum + row.reduce((a, b) => a + b * b, 0), 0);
  let before = 0;
  for (const bits of levels) {
    const one = await packed(await open(file), { bits, threads: 1 });
    for (const threads of [2, 3]) assert.ok(Buffer.compare(one, await packed(await open(file), { bits, threads })) === 0, `${bits} bits, ${threads} workers`);
    const head = await header(one);
    assert.is(head.linears[name]!.parts.length, 4);
    assert.is(head.linears.embedding!.parts[0]!.layout, bits === 'f32' ? 'f32' : 'int8');
    const got = rowsOf(one, head, name), error = Math.sqrt(square(got.map((row, r) => row.map((value, k) => value - want[r]![k]!))) / square(want));
    const limit = { f32: 0, 8: 0.01, 4: 0.1, 3: 0.2, 2: 0.35, 1: 0.62, ternary: 0.62 }[bits];
    assert.ok(error <= limit && (bits === 'ternary' || error >= before), `${bits} bits: ${error}`);
    before = error;
  }
});

test('the matrix that makes logits at 4 bits: the head, or the embedding that is both', async () => {
  for (const tied of [true, false]) {
    const file = llama2cFile(wide, 0, { untied: !tied }), head = tied ? 'embedding' : 'head';
    const one = await packed(await open(file), { bits: 2, headBits: 4, threads: 1 }), { linears } = await header(one);
    assert.equal(linears[head]!.parts.map(({ layout, planes, groupSize }) => [layout, planes, groupSize]), [['planes', 4, 128]]);
    assert.is(linears.embedding!.parts[0]!.layout, tied ? 'planes' : 'int8');
    const exact = await packed(await open(file), { bits: 'f32' }), want = rowsOf(exact, await header(exact), head).flatMap(row => [...row]);
    const got = rowsOf(one, await header(one), head).flatMap(row => [...row]), power = want.reduce((sum, v) => sum + v * v, 0);
    assert.ok(want.reduce((sum, v, i) => sum + (v - got[i]!) ** 2, 0) < 0.01 * power);
    await using model = await loadModel(one, { threads: 1 });
    assert.ok((await model.score([1, 5, 9, 12])).logProbabilities.every(Number.isFinite));
  }
  try {
    await pack(await open(), { headBits: 5 as 4 }, new MemorySink());
    assert.unreachable();
  } catch (error) {
    assert.instance(error, BadArgumentError);
  }
});

test('several jobs a matrix: every row in its place, the same bytes for any number of workers', async () => {
  const huge = { ...tiny, dim: 240, hiddenDim: 4800, nLayers: 1, nHeads: 6, nHeadsKv: 2 }, file = llama2cFile(huge, 0);
  for (const bits of ['f32', 2, 'ternary'] as const) {
    const one = await packed(await open(file), { bits, threads: 1 });
    assert.ok(Buffer.compare(one, await packed(await open(file), { bits, threads: 3 })) === 0, `${bits}`);
    if (bits !== 'f32') continue;
    const { tensors, dataOffset } = await header(one), gate = llama2cWeights(huge)['ffn.gate']!;
    const tiles = new Float32Array(one.slice(dataOffset + tensors['layers.0.ffn.gate.0']!.begin, dataOffset + tensors['layers.0.ffn.gate.0']!.end).buffer);
    assert.ok(gate.every((value, i) => {
      const row = Math.floor(i / 240), col = i % 240;
      return tiles[(row >> 4) * 16 * 240 + 16 * col + row % 16] === value;
    }));
  }
});

test('unpacked: the same weights as f32', async () => {
  for (const bits of levels) {
    for (const coding of typeof bits === 'number' && bits <= 4 ? ['i16', 'f16', 'f32'] as const : ['i16'] as const) {
      const bytes = await packed(await open(), { bits, coding, groupSize: 32, threads: 1 }), plain = await unpack(bytesSource('packed', bytes));
      const from = await header(bytes), to = await header(plain);
      assert.equal(to.config, from.config);
      for (const [name, { parts }] of Object.entries(to.linears)) {
        assert.is(parts[0]!.layout, 'f32');
        const want = rowsOf(bytes, from, name), got = rowsOf(plain, to, name);
        got.forEach((row, r) => row.forEach((value, k) => assert.ok(Math.abs(value - want[r]![k]!) < 1e-6, `${bits} bits, ${coding}, ${name}`)));
      }
      for (const name of ['norm', 'tokenizer', 'layers.1.ffn.norm']) {
        const range = ({ tensors, dataOffset }: PackedHeader, all: Uint8Array) => all.slice(dataOffset + tensors[name]!.begin, dataOffset + tensors[name]!.end);
        assert.equal(range(to, plain), range(from, bytes), name);
      }
    }
  }
});

test('a ternary checkpoint keeps its trits and scale, unless other bits are asked for', async () => {
  const folder = hfFolder(bitnetConfig, bitnetTensors());
  try {
    for (const bits of [undefined, 'ternary', 'f32', 4] as const) {
      const source = await importHuggingFace(folder.path);
      const bytes = await packed(source, { threads: 2, ...(bits && { bits }) }), head = await header(bytes);
      await source.close();
      const { layout } = head.linears['layers.0.ffn.up']!.parts[0]!;
      assert.is(layout, bits === 'f32' ? 'f32' : bits === 4 ? 'planes' : 'ternary');
      assert.is(head.provenance.method, bits === 4 ? 'hlq' : 'exact');
      rowsOf(bytes, head, 'layers.0.ffn.up').forEach((row, r) => row.forEach((value, k) => {
        assert.ok(Math.abs(value - 0.25 * trit('mlp.up_proj', r, k)) <= (bits === 4 ? 1e-4 : 0), `[${r}][${k}], ${bits}`);
      }));
    }
  } finally {
    folder.remove();
  }
});

test('absmean: gamma is the mean of |w|', async () => {
  const source = await open(), bytes = await packed(source, { bits: 'ternary' }), head = await header(bytes);
  const exact = await packed(await open(), { bits: 'f32' }), want = rowsOf(exact, await header(exact), 'layers.0.attn.q');
  const mean = want.reduce((sum, row) => sum + row.reduce((a, b) => a + Math.abs(b), 0), 0) / (24 * 24);
  const got = rowsOf(bytes, head, 'layers.0.attn.q').flatMap(row => [...row]), gamma = Math.max(...got);
  assert.is(gamma, Math.fround(mean));
});

test('options out of range', async () => {
  for (const options of [{ bits: 5 }, { bits: '4' }, { groupSize: 48 }, { threads: 0 }, { threads: 1.5 }, { coding: 'i8' }]) {
    const sink = new MemorySink();
    try {
      await pack(await open(), options as PackOptions, sink);
    } catch (error) {
      assert.instance(error, BadArgumentError, JSON.stringify(options));
      continue;
    }
    assert.unreachable(JSON.stringify(options));
  }
});

test('progress goes up to its total', async () => {
  for (const bits of [2, 'ternary'] as const) {
    const seen: number[][] = [];
    await packed(await open(), { bits, threads: 2, onProgress: (...step) => seen.push(step) });
    assert.ok(seen.every(([done], i) => i === 0 || done! > seen[i - 1]![0]!));
    assert.is(seen.at(-1)![0], seen.at(-1)![1]);
  }
});

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'lutra-pack-'));
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('a file appears under its name when it is complete', () => inFolder(async folder => {
  const path = join(folder, 'model.safetensors');
  let names: string[] = [];
  await pack(await open(), { bits: 2, onProgress: () => { names = readdirSync(folder); } }, await fileSink(path));
  assert.not.ok(names.includes('model.safetensors'));
  assert.equal(readdirSync(folder), ['model.safetensors']);
  assert.equal(new Uint8Array(readFileSync(path)), await packed(await open(), { bits: 2 }));
  const file = await openFile(path);
  await readPackedHeader(file);
  await file.close();
}));

test('abort, a weight that is not finite, a failing sink: nothing is left behind', () => inFolder(async folder => {
  const path = join(folder, 'model.safetensors');
  const fails = async (source: SourceModel, options: PackOptions, check: (error: any) => boolean) => {
    try {
      await pack(source, options, await fileSink(path));
    } catch (error) {
      assert.ok(check(error), String(error));
      assert.equal(readdirSync(folder), []);
      return;
    }
    assert.unreachable();
  };
  const reason = new Error('enough');
  await fails(await open(), { signal: AbortSignal.abort(reason) }, error => error === reason);
  const controller = new AbortController();
  await fails(await open(llama2cFile(wide, 0)), { signal: controller.signal, onProgress: () => controller.abort(reason) }, error => error === reason);

  const threads = () => process.getActiveResourcesInfo().filter(kind => kind === 'MessagePort').length, before = threads();
  await fails(await open(), { threads: 2, meanwhile: () => { throw reason; } }, error => error === reason);
  assert.is(threads(), before, 'workers that had started are ended');

  for (const offset of [28, 28 + 4 * 262 * 24, 28 + 4 * (262 * 24 + 48) + 40]) {
    for (const bits of [2, 'ternary', 8, 'f32'] as const) {
      const file = llama2cFile(tiny, 0);
      new DataView(file.buffer).setFloat32(offset, NaN, true);
      await fails(await open(file), { bits }, error => error instanceof BadModelFileError && error.path === 'model.bin');
    }
  }
  try {
    await fileSink(join(folder, 'missing', 'model.safetensors'));
    assert.unreachable();
  } catch (error) {
    assert.instance(error, FileAccessError);
  }
}));

const shared = sharedDir();
if (!shared) {
  skip(test, 'stories3M at every level', 'LUTRA_SHARED is not set');
} else {
  test('stories3M at every level: bits per weight', async () => {
    const folder = join(shared, 'models/stories3M');
    const expected = { f32: 32, 8: 8, 4: 5.25, 3: 4, 2: 2.75, 1: 1.5, ternary: 2 };
    for (const bits of levels) {
      const source = await importLlama2c(await openFile(join(folder, 'stories3M-q80.bin')), () => openFile(join(folder, 'tok4096.bin')));
      const sink = new MemorySink(), stats = await pack(source, { bits, groupSize: 64 }, sink);
      // 32 bits for each row, of 192 or 512 columns.
      assert.ok(stats.bitsPerWeight > expected[bits] && stats.bitsPerWeight < expected[bits] + 32 / 192, `${bits}: ${stats.bitsPerWeight}`);
      await header(sink.bytes);
      await source.close();
    }
  });
}

test.run();

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UnsupportedFormatError } from '../../src/errors.js';
import { partBorders, planPacked, readPackedHeader, type PackedPlan, type PartFormat } from '../../src/formats/packed.js';
import { PackedWriter } from '../../src/formats/packed-writer.js';
import type { ModelConfig } from '../../src/formats/types.js';
import { MemorySink } from '../../src/pack/sink.js';
import { bytesSource } from '../../src/platform/platform.js';
import { refused } from './attack.js';

const config: ModelConfig = {
  architecture: 'bitnet', dim: 48, hiddenDim: 300, nLayers: 2, nHeads: 4, nHeadsKv: 2, headDim: 40, vocabSize: 33, contextLength: 64,
  normEps: 1e-5, ropeTheta: 10000, ropeScaling: null, slidingWindow: null, activation: 'relu2', tiedHead: false, bosId: 1, eosIds: [2], addBos: true,
};
const int8: PartFormat = { layout: 'int8', planes: 0, groupSize: 0, coding: 'none' };
const planes: PartFormat = { layout: 'planes', planes: 2, groupSize: 32, coding: 'i16' };
const formats: PartFormat[] = [
  int8, planes, { layout: 'f32', planes: 0, groupSize: 0, coding: 'none' }, { layout: 'ternary', planes: 2, groupSize: 64, coding: 'none' },
  { layout: 'ternary', planes: 2, groupSize: 128, coding: 'f16' }, { layout: 'planes', planes: 4, groupSize: 128, coding: 'f32' },
];

const planFor = (format = planes, subNorms = true): PackedPlan =>
  planPacked(config, new Set(subNorms ? ['attn.subNorm', 'ffn.subNorm'] : []), 100, ({ name }) => name === 'embedding' || name === 'head' ? int8 : format);

/** A file whose tensors hold zeros; `edit` changes what the header says. */
async function file(plan = planFor()): Promise<Uint8Array> {
  const sink = new MemorySink(), writer = await PackedWriter.begin(sink, config, plan, { source: 'test' });
  for (const [name, { begin, end }] of plan.tensors) await writer.write(name, new Uint8Array(end - begin));
  await writer.finish();
  assert.is(sink.bytes.length, writer.bytes);
  return sink.bytes;
}
const read = (bytes: Uint8Array) => readPackedHeader(bytesSource('model.safetensors', bytes));

/** The file with another header: `edit` gets the container's header and the JSON text inside it. */
async function edited(edit: (header: Record<string, any>, lutra: Record<string, any>) => void): Promise<Uint8Array> {
  const bytes = await file(), length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))), lutra = JSON.parse(header.__metadata__.lutra);
  edit(header, lutra);
  if (header.__metadata__?.lutra) header.__metadata__.lutra = JSON.stringify(lutra);
  const json = new TextEncoder().encode(JSON.stringify(header)), padded = new Uint8Array(Math.ceil((8 + json.length) / 64) * 64 + bytes.length - 8 - length).fill(32);
  new DataView(padded.buffer).setBigUint64(0, BigInt(padded.length - (bytes.length - 8 - length) - 8), true);
  padded.set(json, 8);
  padded.set(bytes.subarray(8 + length), padded.length - (bytes.length - 8 - length));
  return padded;
}

test('what is written is read', async () => {
  for (const format of formats) {
    for (const subNorms of [false, true]) {
      const plan = planFor(format, subNorms), bytes = await file(plan), header = await read(bytes);
      assert.equal(header.config, config);
      assert.equal(header.linears, plan.linears);
      assert.equal(Object.entries(header.tensors), [...plan.tensors]);
      assert.is(header.dataOffset % 64, 0);
      assert.is(header.dataOffset + header.dataBytes, bytes.length);
      for (const { begin, end } of plan.tensors.values()) assert.is(begin % 32 + end % 32, 0);
    }
  }
  await read(await edited(() => {}));
});

test('order of the data: as a forward pass walks', () => {
  const names = [...planFor().tensors.keys()].filter(name => !/\.rowScale$/.test(name)).map(name => name.replace(/\.\d$/, ''));
  const layer = (i: number) => ['attn.norm', 'attn.q', 'attn.k', 'attn.v', 'attn.subNorm', 'attn.o', 'ffn.norm', 'ffn.gate', 'ffn.up', 'ffn.subNorm', 'ffn.down'].map(name => `layers.${i}.${name}`);
  assert.equal([...new Set(names)], ['embedding', ...layer(0), ...layer(1), 'norm', 'head', 'tokenizer']);
});

test('borders of column segments', () => {
  const grouped = (groupSize: number): PartFormat => ({ ...planes, groupSize });
  assert.equal(partBorders(576, grouped(64), true), [0, 128, 256, 384, 576]);
  assert.equal(partBorders(172, grouped(32), true), [0, 32, 96, 128, 172]);
  assert.equal(partBorders(172, int8, true), [0, 32, 96, 128, 172]);
  assert.equal(partBorders(192, grouped(64), true), [0, 192]);
  assert.equal(partBorders(193, grouped(64), true), [0, 64, 128, 192, 193]);
  assert.equal(partBorders(4096, grouped(128), false), [0, 4096]);
});

test('a file cut at any byte, or a byte too long', async () => {
  const bytes = await file();
  for (let length = 0; length < bytes.length; length += length < 20000 ? 13 : 499) await refused(() => read(bytes.subarray(0, length)), 'model.safetensors', `cut at ${length}`);
  for (let length = 0; length < 64; length++) await refused(() => read(bytes.subarray(0, length)), 'model.safetensors', `cut at ${length}`);
  await refused(() => read(bytes.subarray(0, bytes.length - 1)), 'model.safetensors', 'without its last byte');
  await refused(() => read(Uint8Array.from([...bytes, 0])), 'model.safetensors', 'a byte too long');
});

test('a header length that lies', async () => {
  for (const length of [0n, 1n, 2n ** 20n, 100_000_001n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
    const bytes = await file();
    new DataView(bytes.buffer).setBigUint64(0, length, true);
    await refused(() => read(bytes), 'model.safetensors', `length ${length}`);
  }
});

test('headers that would keep a parser busy', async () => {
  const many = Array.from({ length: 300_000 }, (_, i) => `"${i}a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`).join(',');
  for (const json of [`{${many}}`, `{"a":${'['.repeat(4e6)}${']'.repeat(4e6)}}`, '{"a":'.repeat(2e6), `{"a":"${'x'.repeat(1e7)}"}`, `{"a":"${'x'.repeat(3e7)}"}`]) {
    const text = new TextEncoder().encode(json), bytes = new Uint8Array(8 + text.length);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
    bytes.set(text, 8);
    await refused(() => read(bytes), 'model.safetensors', json.slice(0, 20));
  }
});

test('noise', async () => {
  const bytes = await file();
  let state = 1;
  for (let i = 0; i < 300; i++) {
    const spoilt = bytes.slice();
    for (let k = 0; k < 3; k++) spoilt[8 + (state = Math.imul(state, 1103515245) + 12345 >>> 0) % 4000] = state >>> 24;
    try {
      await read(spoilt);
    } catch {
      await refused(() => read(spoilt), 'model.safetensors', `noise ${i}`);
    }
  }
});

type Edit = (header: Record<string, any>, lutra: Record<string, any>) => void;
const setConfig = (field: string, value: unknown): Edit => (_, { config: target }) => { target[field] = value; };
const q = 'layers.0.attn.q', part: (lutra: Record<string, any>) => Record<string, any> = lutra => lutra.linears[q].parts[0];
const attacks: Record<string, Edit> = {
  'no metadata': header => { delete header.__metadata__; },
  'metadata that is no map': header => { header.__metadata__ = 'lutra'; },
  'another format': header => { header.__metadata__.format = 'pt'; },
  'no lutra': header => { delete header.__metadata__.lutra; },
  'unknown version': (_, lutra) => { lutra.version = 2; },
  'version as text': (_, lutra) => { lutra.version = '1'; },
  'no config': (_, lutra) => { delete lutra.config; },
  'unknown config field': setConfig('ropeScaling', 8),
  'no linears': (_, lutra) => { delete lutra.linears; },
  'linears as a list': (_, lutra) => { lutra.linears = []; },
  'no provenance': (_, lutra) => { delete lutra.provenance; },
  'a linear layer less': (_, lutra) => { delete lutra.linears[q]; },
  'a linear layer more': (_, lutra) => { lutra.linears.extra = lutra.linears[q]; },
  'inherited name': (_, lutra) => { lutra.linears.constructor = lutra.linears[q]; },
  'no parts': (_, lutra) => { lutra.linears[q].parts = []; },
  'a part too many': (_, lutra) => { lutra.linears[q].parts.push(part(lutra)); },
  'rows': (_, lutra) => { lutra.linears[q].rows = 161; },
  'cols': (_, lutra) => { lutra.linears[q].cols = 47; },
  'another tensor': (_, lutra) => { part(lutra).tensor = 'layers.0.attn.k.0'; },
  'another row scale': (_, lutra) => { lutra.linears[q].rowScale = 'norm'; },
  'unknown layout': (_, lutra) => { part(lutra).layout = 'trellis'; },
  'layout of Object.prototype': (_, lutra) => { part(lutra).layout = 'constructor'; },
  'unknown coding': (_, lutra) => { part(lutra).coding = 'i8'; },
  'coding none for planes': (_, lutra) => { part(lutra).coding = 'none'; },
  'planes 0': (_, lutra) => { part(lutra).planes = 0; },
  'planes 5': (_, lutra) => { part(lutra).planes = 5; },
  'group size 0': (_, lutra) => { part(lutra).groupSize = 0; },
  'group size 48': (_, lutra) => { part(lutra).groupSize = 48; },
  'group size 1e300': (_, lutra) => { part(lutra).groupSize = 1e300; },
  'borders': (_, lutra) => { part(lutra).colEnd = 32; },
  'borders of a segment': (_, lutra) => { lutra.linears['layers.0.ffn.down'].parts[1].colBegin = 32; },
  'a format of its own for one segment': (_, lutra) => { lutra.linears['layers.0.ffn.down'].parts[1].planes = 3; },
  'unknown dtype': header => { header.norm.dtype = 'F7'; },
  'another dtype': header => { header.norm.dtype = 'I32'; },
  'shape': header => { header.norm.shape = [32]; },
  'shape of the same size': header => { header.norm.shape = [2, 24]; },
  'negative shape': header => { header.norm.shape = [-48]; },
  'fractional shape': header => { header.norm.shape = [48.5]; },
  'shape that overflows': header => { header.norm.shape = [2 ** 52, 2 ** 52]; },
  'shape of many dimensions': header => { header.norm.shape = new Array(1000).fill(1); },
  'offsets that overlap': header => { header.norm.data_offsets = header['layers.0.attn.norm'].data_offsets; },
  'offsets backwards': header => { header.norm.data_offsets.reverse(); },
  'offsets missing': header => { delete header.norm.data_offsets; },
  'offsets beyond the file': header => { header.tokenizer.data_offsets[1] += 64; header.tokenizer.shape[0] += 64; },
  'a tensor less': header => { delete header.norm; },
  'no tokenizer': header => { delete header.tokenizer; },
  'a tensor more': header => { header.more = { dtype: 'U8', shape: [0], data_offsets: [0, 0] }; },
  'a bias that nobody expects': (_, lutra) => { lutra.linears[q].bias = 'norm'; },
  'a sub-norm in one layer only': header => { delete header['layers.1.attn.subNorm']; },
  'tensor that is a number': header => { header.norm = 5; },
};
for (const field of ['dim', 'hiddenDim', 'nLayers', 'nHeads', 'nHeadsKv', 'headDim', 'vocabSize']) {
  for (const value of [0, -1, 1.5, 2 ** 24, 2 ** 31, 1e300, null, '48', [48], undefined]) attacks[`${field} = ${JSON.stringify(value)}`] = setConfig(field, value);
}
for (const [field, values] of Object.entries({
  contextLength: [0, -1, 2 ** 40, null], normEps: [0, -1, null, '1'], ropeTheta: [0, null], activation: ['gelu', null], tiedHead: [true, 1], bosId: [33, -1, 1.5, '1'],
  eosIds: [[33], null, 2, ['a'], new Array(1000).fill(1)], addBos: [1, null], architecture: [5],
})) {
  for (const value of values) attacks[`${field} = ${JSON.stringify(value).slice(0, 20)}`] = setConfig(field, value);
}
attacks['addBos without bosId'] = setConfig('bosId', null);

test(`${Object.keys(attacks).length} headers that lie`, async () => {
  for (const [name, edit] of Object.entries(attacks)) {
    const bytes = await edited(edit);
    await refused(() => read(bytes), 'model.safetensors', name);
  }
});

test('an unknown version says so', async () => {
  const bytes = await edited((_, lutra) => { lutra.version = 2; });
  assert.instance(await refused(() => read(bytes), 'model.safetensors', 'version'), UnsupportedFormatError);
});

test('the writer notices what is missing', async () => {
  const plan = planFor(), writer = await PackedWriter.begin(new MemorySink(), config, plan, {});
  await writer.write('norm', new Uint8Array(192));
  try {
    await writer.finish();
  } catch (error) {
    assert.match((error as Error).message, 'were not written');
    return;
  }
  assert.unreachable();
});

test.run();

/** Folders as ELUTQ exports them: read, packed, written again. */
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadModel } from 'lutra';
import { BadArgumentError, BadModelFileError, LutraError, UnsupportedFormatError } from '../../src/errors.js';
import { detect } from '../../src/formats/detect.js';
import { readPackedHeader } from '../../src/formats/packed.js';
import { exportElutq, folderSink } from '../../src/pack/export-elutq.js';
import { pack, type PackOptions } from '../../src/pack/pack.js';
import { Packers } from '../../src/pack/packers.js';
import { MemorySink } from '../../src/pack/sink.js';
import { bytesSource } from '../../src/platform/platform.js';
import { decodeRows, halfToNumber } from '../assembly/reference.js';
import { bytes, elutqConfig, elutqFiles, elutqLayers, halves, random } from '../formats/elutq-folder.js';
import { hfFolder, llamaTensors } from '../formats/hf-folder.js';

const test = suite('ELUTQ');
const { fround } = Math;
const root = mkdtempSync(join(tmpdir(), 'lutra-'));
test.after(() => rmSync(root, { recursive: true }));

function write(folder: string, name: string, content: Uint8Array | object): void {
  mkdirSync(dirname(join(folder, name)), { recursive: true });
  writeFileSync(join(folder, name), content instanceof Uint8Array ? content : JSON.stringify(content));
}

/** A folder with random numbers. */
function makeFolder(name: string, tied = true): string {
  const folder = join(root, name);
  for (const [file, content] of Object.entries(elutqFiles(tied))) write(folder, file, content);
  return folder;
}

async function packed(path: string, options: PackOptions = {}): Promise<Uint8Array> {
  const found = await detect(path), sink = new MemorySink();
  if (!('source' in found)) throw new Error('no source');
  try {
    await pack(found.source, { threads: 1, ...options }, sink);
  } finally {
    await found.source.close();
  }
  return sink.bytes;
}

/** A weight by the format's definition: z + s_0 b_0 + s_1 b_1 … */
function weight(folder: string, layer: string, r: number, k: number): number {
  const [, rows, cols, planes, groupSize] = elutqLayers.find(([name]) => layer.endsWith(name))!, groups = cols / groupSize, g = Math.floor(k / groupSize);
  const file = (name: string) => readFileSync(join(folder, layer, name));
  const half = (buffer: Buffer, i: number) => halfToNumber(buffer.readUInt16LE(2 * i));
  let w = half(file('w_zero.bin'), r * groups + g);
  for (let p = 0; p < planes; p++) {
    if (file('w_quant.bin')[(p * rows + r) * cols / 8 + (k >> 3)]! >> (k & 7) & 1) w += half(file('w_scale.bin'), (p * rows + r) * groups + g);
  }
  return w;
}

test('the worked example', async () => {
  const packers = await Packers.create(), x = [1, -2, 0.5, 3, -1, 0.25, 2, -0.75];
  // Rows: codes of both planes, scales of both planes, zero.
  const codes = Uint8Array.of(0xde, 0xa0, 0x34, 0x5b), scales = Uint8Array.of(0x40, 0x3a, 0x46, 0x3d, 0x13, 0xbb, 0xb4, 0x39, 0x3b, 0x3d, 0x9b, 0xbc);
  const format = { layout: 'f32', planes: 0, groupSize: 0, coding: 'none' } as const;
  const { parts: [tile] } = packers.tiles({ encoding: 'elutq', rows: 2, cols: 8, codes, scales, phases: null, param: 2 + 16 * 8, factor: 1, format, borders: [0, 8], gamma: 1, ternaryScale: 1, keep: false });
  const w = new Float32Array(tile!.buffer), y = [0, 1].map(r => x.reduce((sum, value, k) => sum + value * w[16 * k + r]!, 0));
  assert.ok(Math.abs(y[0]! + 1.94482421875) < 1e-6 && Math.abs(y[1]! - 0.29052734375) < 1e-6, `${y}`);
});

test('packed as they are: the weights of the definition', async () => {
  for (const tied of [true, false]) {
    const folder = makeFolder(`exact-${tied}`, tied), file = await packed(folder), { linears, tensors, dataOffset, config: { tiedHead }, provenance } = await readPackedHeader(bytesSource('packed', file));
    assert.equal([tiedHead, provenance.format, provenance.method], [tied, 'ELUTQ', 'exact']);
    const names: Record<string, string> = { 'attn.q': 'self_attn.q_proj', 'attn.k': 'self_attn.k_proj', 'attn.v': 'self_attn.v_proj', 'attn.o': 'self_attn.o_proj', 'ffn.gate': 'mlp.gate_proj', 'ffn.down': 'mlp.down_proj' };
    for (const [name, layer] of Object.entries(names)) {
      const { rows, cols, parts, rowScale } = linears[`layers.1.${name}`]!, tensor = (one: string) => file.slice(dataOffset + tensors[one]!.begin, dataOffset + tensors[one]!.end);
      const [, , , planes, groupSize] = elutqLayers.find(([one]) => one === layer)!;
      assert.equal([parts[0]!.layout, parts[0]!.planes, parts[0]!.groupSize, parts[0]!.coding], ['planes', planes, groupSize, 'f16']);
      const weights = decodeRows(parts[0]!, parts.map(part => tensor(part.tensor)), tensor(rowScale), rows, cols, parts.length > 1);
      for (let i = 0; i < 40; i++) {
        const r = random() % rows, k = random() % cols;
        assert.is(weights[r]![k], weight(folder, `1/${layer}`, r, k), `${name} [${r}, ${k}]`);
      }
    }
  }
});

/** Files of a folder, name to content. */
const filesOf = (folder: string) => new Map((readdirSync(folder, { recursive: true }) as string[]).filter(name => statSync(join(folder, name)).isFile()).map(name => [name, readFileSync(join(folder, name))]));

test('written again: the same numbers, byte for byte, and the same packed file', async () => {
  const folder = makeFolder('again'), out = join(root, 'again-out'), first = await packed(folder);
  const stats = await exportElutq(bytesSource('packed', first), {}, await folderSink(out));
  assert.is(stats.rounded, 0);
  const before = filesOf(folder), after = filesOf(out);
  for (const [name, content] of before) if (name.endsWith('.bin')) assert.ok(after.get(name)?.equals(content), name);
  assert.is([...after.keys()].filter(name => name.endsWith('.bin')).length, [...before.keys()].filter(name => name.endsWith('.bin')).length);
  const { groupsize } = JSON.parse(after.get('0/self_attn.k_proj/weight_config.json')!.toString());
  assert.is(groupsize, 64);
  assert.ok(Buffer.from(await packed(out)).equals(first), 'the packed file of the copy is another one');
});

test('a model that was quantised here: exported, imported, the same logits bit for bit', async () => {
  const source = hfFolder(elutqConfig, llamaTensors(elutqConfig));
  try {
    const ids = Array.from({ length: 20 }, (_, i) => i * 7 % 40);
    const score = async (file: Uint8Array) => {
      await using model = await loadModel(file, { threads: 1 });
      return (await model.score(ids)).logProbabilities;
    };
    for (const bits of [2, 3] as const) {
      const file = await packed(source.path, { bits, groupSize: 32, coding: 'f16', embedding: 'f32' }), out = join(root, `round-${bits}`);
      assert.is((await exportElutq(bytesSource('packed', file), {}, await folderSink(out))).rounded, 0);
      const again = await packed(out), [a, b] = [await score(file), await score(again)];
      assert.ok(a.every(Number.isFinite) && new Set(a).size > 10);
      assert.equal(b, a);
    }
  } finally {
    source.remove();
  }
});

test('other groups and more planes: as f32, the same values', async () => {
  const folder = makeFolder('odd'), at = join(folder, '0/mlp.up_proj');
  // Groups of 16 columns; six planes.
  writeFileSync(join(at, 'w_zero.bin'), halves(160 * 8));
  writeFileSync(join(at, 'w_scale.bin'), halves(6 * 160 * 8));
  writeFileSync(join(at, 'w_quant.bin'), bytes(6 * 160 * 16));
  writeFileSync(join(at, 'weight_config.json'), JSON.stringify({ base_bit: 6, in_channel: 128, out_channel: 160, has_bias: false, use_sparse: false }));
  const file = await packed(folder), { linears, tensors, dataOffset } = await readPackedHeader(bytesSource('packed', file)), { parts: [part] } = linears['layers.0.ffn.up']!;
  assert.is(part!.layout, 'f32');
  const w = new Float32Array(file.slice(dataOffset + tensors[part!.tensor]!.begin, dataOffset + tensors[part!.tensor]!.end).buffer);
  const half = (name: string, i: number) => halfToNumber(readFileSync(join(at, name)).readUInt16LE(2 * i)), quant = readFileSync(join(at, 'w_quant.bin'));
  for (let i = 0; i < 60; i++) {
    const r = random() % 160, k = random() % 128;
    let want = half('w_zero.bin', r * 8 + (k >> 4));
    for (let p = 0; p < 6; p++) if (quant[(p * 160 + r) * 16 + (k >> 3)]! >> (k & 7) & 1) want = fround(want + half('w_scale.bin', (p * 160 + r) * 8 + (k >> 4)));
    assert.is(w[(r >> 4) * 16 * 128 + 16 * k + r % 16], want);
  }
});

test('broken folders: typed errors that name the file', async () => {
  const layer = '0/self_attn.q_proj', sound = { base_bit: 2, use_sparse: false, in_channel: 128, out_channel: 128, has_bias: false };
  const nan = halves(128 * 4);
  nan.set([0x00, 0x7e], 100);
  const cases: [string, string, Uint8Array | object | null, new (...args: any[]) => LutraError][] = [
    ['codes too short', `${layer}/w_quant.bin`, bytes(100), BadModelFileError],
    ['scales too long', `${layer}/w_scale.bin`, halves(2 * 128 * 4 + 1), BadModelFileError],
    ['zeros of no group size', `${layer}/w_zero.bin`, halves(128 * 3), BadModelFileError],
    ['no zeros', `${layer}/w_zero.bin`, new Uint8Array(0), BadModelFileError],
    ['another group size', `${layer}/weight_config.json`, { ...sound, groupsize: 64 }, BadModelFileError],
    ['no planes', `${layer}/weight_config.json`, { ...sound, base_bit: 0 }, BadModelFileError],
    ['a shape of 2^60', `${layer}/weight_config.json`, { ...sound, in_channel: 2 ** 30, out_channel: 2 ** 30 }, BadModelFileError],
    ['columns that fill no bytes', `${layer}/weight_config.json`, { ...sound, in_channel: 126 }, BadModelFileError],
    ['no JSON', `${layer}/weight_config.json`, Uint8Array.of(0x7b), BadModelFileError],
    ['another shape than the model', `${layer}/weight_config.json`, { ...sound, in_channel: 64, out_channel: 256 }, BadModelFileError],
    ['sparse planes', `${layer}/weight_config.json`, { ...sound, use_sparse: true }, UnsupportedFormatError],
    ['a scale that is no number', `${layer}/w_zero.bin`, nan, BadModelFileError],
    ['a norm too long', '0/input_layernorm_weight.bin', halves(129), BadModelFileError],
    ['an embedding of half a row', 'shared_embed_lm_head.bin', halves(40 * 128 - 64), BadModelFileError],
    ['a million layers', 'config.json', { ...elutqConfig, num_hidden_layers: 1e6 }, BadModelFileError],
    ['norms with biases', '1/rmsnorm_bias.bin', halves(128), UnsupportedFormatError],
    ['a file that is missing', `${layer}/w_scale.bin`, null, LutraError],
  ];
  for (const [what, name, content, type] of cases) {
    const folder = makeFolder('broken');
    if (content) write(folder, name, content);
    else rmSync(join(folder, name));
    try {
      await packed(folder);
      assert.unreachable(what);
    } catch (error) {
      assert.ok(error instanceof type, `${what}: ${error}`);
    }
    rmSync(folder, { recursive: true });
  }
});

test('what cannot be exported is refused, and leaves nothing behind', async () => {
  const source = hfFolder(elutqConfig, llamaTensors(elutqConfig)), out = join(root, 'refused');
  try {
    const file = await packed(source.path, { bits: 2 });
    const refused = async (type: new (...args: any[]) => Error, action: () => Promise<unknown>) => {
      try {
        await action();
        assert.unreachable();
      } catch (error) {
        assert.ok(error instanceof type, `${error}`);
      }
    };
    await refused(UnsupportedFormatError, async () => exportElutq(bytesSource('packed', file), {}, await folderSink(out)));
    await refused(BadArgumentError, () => folderSink(root));
    assert.equal(readdirSync(root).filter(name => name.startsWith('refused')), []);
  } finally {
    source.remove();
  }
});

test.run();

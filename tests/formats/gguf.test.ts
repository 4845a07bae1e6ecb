import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BadModelFileError, FileAccessError, UnsupportedFormatError } from '../../src/errors.js';
import { detect } from '../../src/formats/detect.js';
import { readGguf } from '../../src/formats/gguf.js';
import { importGguf } from '../../src/formats/gguf-model.js';
import { adjacentPairRow } from '../../src/formats/source.js';
import { bytesSource } from '../../src/platform/platform.js';
import { Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { refused } from './attack.js';
import { bool, f32, float, ggufFile, list, num, small, str, text, tinyParts, tokens, typeIds, u32, u64, type Parts, type Raw, type Tensor } from './gguf-file.js';

const test = suite('gguf');
/** 128 trits of bitnet.cpp, and their scale. */
const asI2S = (name: string): Tensor => ({ name, dims: [128], type: typeIds.I2_S!, bytes: new Uint8Array(64) });
const open = (bytes: Uint8Array, name = 'model.gguf') => importGguf(bytesSource(name, bytes));

test('a tiny model: configuration, weights in their places, q and k in half-split order', async () => {
  const parts = tinyParts('F32', small, { untied: true }), file = ggufFile(parts), source = await open(file);
  assert.equal(source.config, {
    architecture: 'llama', dim: 8, hiddenDim: 12, nLayers: 2, nHeads: 2, nHeadsKv: 1, headDim: 4, vocabSize: tokens.length, contextLength: 64,
    normEps: Math.fround(1e-5), ropeTheta: 10000, ropeScaling: null, slidingWindow: null, activation: 'silu', tiedHead: false, bosId: null, eosIds: [tokens.indexOf('<end>')], addBos: false,
  });
  assert.equal([...source.vectors.keys()], ['layers.0.attn.norm', 'layers.0.ffn.norm', 'layers.1.attn.norm', 'layers.1.ffn.norm', 'norm']);
  const bytes = (name: string) => parts.tensors.find(tensor => tensor.name === name)!.bytes;
  for (const [name, tensor] of [['embedding', 'token_embd'], ['layers.1.attn.q', 'blk.1.attn_q'], ['layers.0.attn.k', 'blk.0.attn_k'], ['layers.1.ffn.down', 'blk.1.ffn_down'], ['head', 'output']] as const) {
    const { rows, cols, codes } = source.matrices.get(name)!;
    for (let r = 0; r < rows; r++) {
      const from = 4 * cols * (/[qk]$/.test(name) ? adjacentPairRow(r, 4) : r);
      assert.equal(file.slice(codes.offset(r), codes.offset(r) + codes.length), bytes(`${tensor}.weight`).slice(from, from + 4 * cols), `${name}, row ${r}`);
    }
  }
  assert.is((await open(ggufFile(tinyParts()))).config.tiedHead, true);
  const tokenizer = new Tokenizer(source.tokenizerJson, source.config, 'model.gguf');
  assert.equal(tokenizer.encode('the th<end>').slice(0, 3), [tokens.indexOf('the'), tokens.indexOf('Ġ'), tokens.indexOf('th')]);
  assert.is(tokenizer.decode(tokenizer.encode('the th<end>é')), 'the th<end>é');
});

test('version 2, another alignment, unknown keys, lists of every type', async () => {
  const parts = tinyParts();
  const more: [string, Raw][] = [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12].flatMap(type => {
    const size = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8][type]!;
    return [[`x.${type}`, [type, new Uint8Array(size)]], [`x.list.${type}`, list(type, [new Uint8Array(3 * size)], 3)]] as [string, Raw][];
  });
  const file = ggufFile({ ...parts, version: 2, alignment: 128, entries: [...more, ['general.alignment', num(128)], ...parts.entries] });
  assert.is((await open(file)).config.dim, 8);
  const { metadata } = await readGguf(bytesSource('model.gguf', file));
  assert.equal(metadata.numbers('x.list.12'), [0, 0, 0]);
  assert.is(metadata.boolean('x.7'), false);
  for (const wrong of [() => metadata.number('x.7'), () => metadata.string('x.4'), () => metadata.strings('x.list.0'), () => metadata.numbers('x.list.7'), () => metadata.numbers('x.0'), () => metadata.number('x.list.0')]) {
    assert.throws(wrong, (error: unknown) => error instanceof BadModelFileError);
  }
});

test('the model in several files', async () => {
  const parts = tinyParts(), folder = mkdtempSync(join(tmpdir(), 'lutra-split-'));
  const part = (no: number, tensors: Tensor[], entries = no === 0 ? parts.entries : []) =>
    ggufFile({ tensors, entries: [...entries, ['split.no', [2, Uint8Array.of(no, 0)]], ['split.count', [2, Uint8Array.of(3, 0)]], ['split.tensors.count', num(parts.tensors.length)]] });
  const write = (no: number, bytes: Uint8Array) => writeFileSync(join(folder, `tiny-0000${no + 1}-of-00003.gguf`), bytes);
  const first = join(folder, 'tiny-00001-of-00003.gguf');
  const cut = [0, 5, 11, parts.tensors.length];
  try {
    for (let no = 0; no < 3; no++) write(no, part(no, parts.tensors.slice(cut[no], cut[no + 1])));
    const found = await detect(first);
    assert.ok('source' in found && found.source.matrices.get('layers.1.ffn.down')!.codes.file.name.endsWith('00003-of-00003.gguf'));
    await found.source.close();

    await refused(() => detect(join(folder, 'tiny-00002-of-00003.gguf')), '00002-of-00003', 'not the first');
    write(1, part(2, parts.tensors.slice(5, 11)));
    await refused(() => detect(first), '00002-of-00003', 'another number');
    write(1, part(1, parts.tensors.slice(4, 11)));
    await refused(() => detect(first), '00002-of-00003', 'a tensor in two of them');
    write(1, part(1, parts.tensors.slice(6, 11)));
    await refused(() => detect(first), '00001-of-00003', 'a tensor in none');
    rmSync(join(folder, 'tiny-00003-of-00003.gguf'));
    try {
      await detect(first);
      assert.unreachable();
    } catch (error) {
      assert.ok(error instanceof FileAccessError || error instanceof BadModelFileError);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** Changes to a sound file, each of which must be noticed; the names of llama.cpp's own list of broken files come first. */
const tensor = (change: Partial<Tensor>, index = 1) => (parts: Parts) => { parts.tensors[index] = { ...parts.tensors[index]!, ...change }; };
const entry = (key: string, value: Raw | undefined) => (parts: Parts) => {
  parts.entries = parts.entries.filter(([name]) => name !== key);
  if (value) parts.entries.push([key, value]);
};
const MAX = 2n ** 64n - 1n;
const attacks: Record<string, (parts: Parts) => void> = {
  'header: bad magic': parts => { parts.magic = 'GGUX'; },
  'header: version 0': parts => { parts.version = 0; },
  'header: version 1': parts => { parts.version = 1; },
  'header: a version of the future': parts => { parts.version = 4; },
  'header: big-endian': parts => { parts.version = 3 << 24; },
  'header: too many tensors': parts => { parts.nTensors = MAX; },
  'header: 2^40 tensors': parts => { parts.nTensors = 2 ** 40; },
  'header: more tensors than there are': parts => { parts.nTensors = parts.tensors.length + 1; },
  'header: fewer tensors than there are': parts => { parts.nTensors = parts.tensors.length - 1; },
  'header: too many entries': parts => { parts.nEntries = MAX; },
  'header: more entries than there are': parts => { parts.nEntries = parts.entries.length + 1; },
  'header: fewer entries than there are': parts => { parts.nEntries = parts.entries.length - 1; },
  'header: nothing': parts => { parts.entries = []; parts.tensors = []; },
  'entry: a key of 2^63 bytes': entry('x', [4, concatBytes(u32(1), u64(2n ** 63n))]),
  'entry: no key': parts => { parts.entries.push(['', num(1)]); },
  'entry: a long key': parts => { parts.entries.push(['k'.repeat(65536), num(1)]); },
  'entry: an unknown type': entry('x', [13, new Uint8Array(8)]),
  'entry: type 2^32 - 1': entry('x', [0xffffffff, new Uint8Array(8)]),
  'entry: a key twice': parts => { parts.entries.push(parts.entries[3]!); },
  'entry: a string of 2^62 bytes': entry('x', [8, u64(2n ** 62n)]),
  'entry: a list of 2^63 numbers': entry('x', list(4, [], 2n ** 63n)),
  'entry: a list of 2^52 bytes': entry('x', list(0, [], 2 ** 52)),
  'entry: a list of 2^61 strings': entry('x', list(8, [], 2n ** 61n)),
  'entry: a list of 2^40 strings': entry('x', list(8, [], 2 ** 40)),
  'entry: a list of lists': entry('x', list(9, [u32(4), u64(0)], 1)),
  'entry: a list of an unknown type': entry('x', list(99, [u32(4)], 1)),
  'alignment: 0': entry('general.alignment', num(0)),
  'alignment: 13': entry('general.alignment', num(13)),
  'alignment: 2^31': entry('general.alignment', num(2 ** 31)),
  'alignment: not a number': entry('general.alignment', str('32')),
  'alignment: not the one used': entry('general.alignment', num(4096)),
  'tensor: a long name': tensor({ name: 'n'.repeat(64) }),
  'tensor: no name': tensor({ name: '' }),
  'tensor: a name twice': tensor({ name: 'token_embd.weight' }),
  'tensor: no dimensions': tensor({ nDims: 0, dims: [] }),
  'tensor: five dimensions': tensor({ dims: [8, 1, 1, 1, 1] }),
  'tensor: 2^32 - 1 dimensions': tensor({ nDims: 0xffffffff }),
  'tensor: a dimension of 0': tensor({ dims: [0, 8] }),
  'tensor: a negative dimension': tensor({ dims: [MAX, 8] }),
  'tensor: dimensions whose product wraps': tensor({ dims: [2 ** 31, 2 ** 31, 2 ** 31, 8] }),
  'tensor: exabytes': tensor({ dims: [2 ** 31, 2 ** 30] }, 2),
  'tensor: larger than its bytes': tensor({ dims: [8, 1000] }, 2),
  'tensor: an unknown type': tensor({ type: 77 }),
  'tensor: a removed type': tensor({ type: 4 }),
  'tensor: rows that are no whole blocks': tensor({ type: typeIds.Q4_0! }, 2),
  'tensor: a type of a fork': tensor({ type: 36 }, 2),
  'tensor: offset off the alignment': tensor({ offset: 7 }),
  'tensor: offset 2^64 - 32': tensor({ offset: MAX - 31n }),
  'tensor: an offset in another tensor': tensor({ offset: 32 }, 2),
  'tensor: a hole before it': tensor({ offset: 2 ** 20 }),
  'tensor: one more': parts => { parts.tensors.push({ ...parts.tensors[1]!, name: 'blk.0.attn_q.bias' }); },
  'tensor: one less': parts => { parts.tensors.splice(4, 1); },
  'tensor: another shape': parts => { parts.tensors[2] = { ...parts.tensors[3]!, name: parts.tensors[2]!.name }; },
  'tensor: a norm of halves': tensor({ type: typeIds.F16!, bytes: new Uint8Array(16) }),
  'model: another architecture': entry('general.architecture', str('qwen2')),
  'model: no architecture': entry('general.architecture', undefined),
  'model: no layers': entry('llama.block_count', num(0)),
  'model: 2^32 - 1 layers': entry('llama.block_count', num(0xffffffff)),
  'model: 65536 layers': entry('llama.block_count', num(65536)),
  'model: no embedding length': entry('llama.embedding_length', undefined),
  'model: 0 heads': entry('llama.attention.head_count', num(0)),
  'model: heads that differ from layer to layer': entry('llama.attention.head_count', list(4, [u32(2), u32(1)])),
  'model: a NaN': entry('llama.attention.layer_norm_rms_epsilon', float(NaN)),
  'model: scaled positions of another kind': entry('llama.rope.scaling.type', str('longrope')),
  'model: positions scaled by less than nothing': entry('llama.rope.scale_linear', float(-4)),
  'model: frequencies divided by nothing': parts => { parts.tensors.push({ name: 'rope_freqs.weight', dims: [2], type: 0, bytes: new Uint8Array(8) }); },
  'tensor: type 36 in a model that bitnet.cpp does not write': parts => {
    parts.entries = parts.entries.map(([key, value]) => [key.replace(/^llama/, 'qwen2'), key === 'general.architecture' ? str('qwen2') : value]);
    parts.tensors.push(asI2S('x'));
  },
  'tensor: type 36 with the size of IQ4_NL_4_4': parts => { parts.tensors.unshift({ ...asI2S('x'), bytes: new Uint8Array(128 * 18 / 32) }); },
  'tensor: type 36, something behind the last': parts => { parts.tensors.push({ ...asI2S('x'), bytes: new Uint8Array(128) }); },
  'tensor: type 36, cut': parts => { parts.tensors.push({ ...asI2S('x'), bytes: new Uint8Array(32) }); },
  'tensor: type 36, rows that fill no blocks': parts => { parts.tensors.push({ ...asI2S('x'), dims: [64, 2] }); },
  'tensor: type 36 as a norm': parts => { parts.tensors = parts.tensors.map(tensor => tensor.name === 'output_norm.weight' ? asI2S(tensor.name) : tensor); },
  'tensor: type 39, MXFP4 or TL2': parts => { parts.tensors.push({ ...asI2S('x'), type: 39 }); },
  'model: heads rotated in part': entry('llama.rope.dimension_count', num(2)),
  'model: experts': entry('llama.expert_count', num(8)),
  'model: a window of no size': entry('llama.attention.sliding_window', float(-1)),
  'model: long values': entry('llama.attention.value_length', num(8)),
  'model: not its first part': entry('split.count', num(2)),
  'tokens: none': entry('tokenizer.ggml.tokens', undefined),
  'tokens: too few': entry('tokenizer.ggml.tokens', list(8, tokens.slice(1).map(text))),
  'tokens: one twice': entry('tokenizer.ggml.tokens', list(8, ['the', ...tokens.slice(1)].map(text))),
  'tokens: numbers': entry('tokenizer.ggml.tokens', list(4, tokens.map(() => u32(1)))),
  'tokens: not UTF-8': entry('tokenizer.ggml.tokens', list(8, tokens.map((token, i) => i ? text(token) : concatBytes(u64(2), Uint8Array.of(0xff, 0xfe))))),
  'tokens: types for others': entry('tokenizer.ggml.token_type', list(5, [u32(1)])),
  'tokens: no merges': entry('tokenizer.ggml.merges', undefined),
  'tokens: a merge of one': entry('tokenizer.ggml.merges', list(8, [text('the')])),
  'tokens: EOS outside': entry('tokenizer.ggml.eos_token_id', num(0xffffffff)),
  'tokens: BOS outside': entry('tokenizer.ggml.bos_token_id', num(tokens.length)),
  'tokens: another kind': entry('tokenizer.ggml.model', str('bert')),
  'tokens: words cut in an unknown way': entry('tokenizer.ggml.pre', str('constructor')),
  'pieces: no scores': entry('tokenizer.ggml.model', str('llama')),
  'pieces: a byte out of its range': parts => {
    entry('tokenizer.ggml.model', str('llama'))(parts);
    entry('tokenizer.ggml.scores', list(6, tokens.map(() => f32(0))))(parts);
    entry('tokenizer.ggml.tokens', list(8, ['<0x-1>', ...tokens.slice(1)].map(text)))(parts);
    entry('tokenizer.ggml.token_type', list(5, tokens.map((_, i) => u32(i ? 1 : 6))))(parts);
  },
  'pieces: a long one': parts => {
    entry('tokenizer.ggml.model', str('llama'))(parts);
    entry('tokenizer.ggml.scores', list(6, tokens.map(() => f32(0))))(parts);
    entry('tokenizer.ggml.tokens', list(8, ['a'.repeat(100000), ...tokens.slice(1)].map(text)))(parts);
  },
};
function concatBytes(...chunks: Uint8Array[]): Uint8Array { return Uint8Array.from(chunks.flatMap(chunk => [...chunk])); }

for (const [name, change] of Object.entries(attacks)) {
  test(`refused: ${name}`, async () => {
    const parts = tinyParts();
    change(parts);
    const file = ggufFile(parts);
    await refused(() => open(file), 'model.gguf', name);
  });
}

test('43 bytes that ask for 2^63', async () => {
  for (const count of [2n ** 63n, 2n ** 53n - 1n, 2n ** 31n]) {
    await refused(() => open(ggufFile({ entries: [['x', list(0, [], count)]], tensors: [] }).slice(0, 43)), 'model.gguf', `${count}`);
  }
});

test('cut anywhere: refused', async () => {
  const file = ggufFile(tinyParts());
  for (let length = 0; length < file.length; length += length < 64 ? 1 : 53) await refused(() => open(file.slice(0, length)), 'model.gguf', `${length} bytes`);
  await refused(() => open(file.slice(0, -32)), 'model.gguf', 'without its last values');
});

test('bytes changed at random in the header: a model or a typed error', async () => {
  const whole = ggufFile(tinyParts()), headerBytes = whole.length - tinyParts().tensors.reduce((sum, { bytes }) => sum + Math.ceil(bytes.length / 32) * 32, 0);
  let state = 99;
  const next = (n: number) => Math.floor((state = Math.imul(state, 1664525) + 1013904223 >>> 0) / 2 ** 32 * n);
  for (let i = 0; i < 1500; i++) {
    const file = whole.slice();
    for (let n = 1 + next(4); n > 0; n--) file[next(headerBytes)] = [0, 255, 128, next(256)][next(4)]!;
    const begin = process.cpuUsage();
    try {
      await open(file);
    } catch (error) {
      assert.ok(error instanceof BadModelFileError || error instanceof UnsupportedFormatError, `${i}: ${(error as Error).stack}`);
    }
    assert.ok(process.cpuUsage(begin).user < 2e6, `${i}: took too long`);
  }
});

test('a header beyond the first read; a million tokens take time in proportion', async () => {
  const seconds = async (count: number) => {
    const names = new Uint8Array(16 * count), view = new DataView(names.buffer);
    for (let i = 0; i < count; i++) {
      view.setUint32(16 * i, 8, true);
      names.set(Buffer.from(i.toString(36).padStart(8, '.')), 16 * i + 8);
    }
    const file = ggufFile({ entries: [['many', list(8, [names], count)], ['pad', str('x'.repeat(5 << 20))]], tensors: [] });
    const begin = process.cpuUsage(), { metadata } = await readGguf(bytesSource('model.gguf', file)), { user } = process.cpuUsage(begin);
    assert.is(metadata.strings('many')!.length, count);
    return user / 1e6;
  };
  await seconds(1 << 14); // optimising compiler
  const eighth = await seconds(1 << 17), whole = await seconds(1 << 20);
  assert.ok(whole < 8 * 3 * eighth + 0.1, `${eighth} s for an eighth, ${whole} s for all`);
});

test('metadata of other kinds: BOS as the model wants it', async () => {
  const parts = tinyParts();
  entry('tokenizer.ggml.bos_token_id', num(3))(parts);
  entry('tokenizer.ggml.add_bos_token', bool(true))(parts);
  const { config } = await open(ggufFile(parts));
  assert.equal([config.bosId, config.addBos], [3, true]);
});

test.run();

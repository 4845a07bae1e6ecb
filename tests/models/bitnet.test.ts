/** One BitNet model, written in the ways that ternary models are published: the same planes and the same logits, bit for bit. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadModel } from 'lutra';
import { noise } from '../cpp/harness.js';
import { bool, f32, float, ggufFile, list, num, str, text, tokens, typeIds, u32, type Tensor as GgufTensor } from '../formats/gguf-file.js';
import { hfFolder, type Tensors } from '../formats/hf-folder.js';
import { bytesOf, concat, f32Tensor } from '../formats/synthetic.js';
import { detect } from '../../src/formats/detect.js';
import { readPackedHeader } from '../../src/formats/packed.js';
import { pack, type Bits } from '../../src/pack/pack.js';
import { MemorySink } from '../../src/pack/sink.js';
import { bytesSource } from '../../src/platform/platform.js';

const test = suite('BitNet in every container');

const [dim, hiddenDim, heads, kvHeads, headDim, nLayers] = [256, 512, 4, 2, 64, 2];
/** Both f16 and bf16 hold it: eight bits of mantissa. */
const scaleOf = (i: number) => (129 + 8 * i) / 4096;
const random = noise(77);

const shapes: [gguf: string, hf: string, rows: number, cols: number][] = [
  ['attn_q', 'self_attn.q_proj', heads * headDim, dim], ['attn_k', 'self_attn.k_proj', kvHeads * headDim, dim], ['attn_v', 'self_attn.v_proj', kvHeads * headDim, dim],
  ['attn_output', 'self_attn.o_proj', dim, heads * headDim], ['ffn_gate', 'mlp.gate_proj', hiddenDim, dim], ['ffn_up', 'mlp.up_proj', hiddenDim, dim], ['ffn_down', 'mlp.down_proj', dim, hiddenDim],
];
const norms: [gguf: string, hf: string, length: number][] = [
  ['attn_norm', 'input_layernorm', dim], ['ffn_norm', 'post_attention_layernorm', dim], ['attn_sub_norm', 'self_attn.attn_sub_norm', heads * headDim], ['ffn_sub_norm', 'mlp.ffn_sub_norm', hiddenDim],
];
const normValues = (length: number) => Float32Array.from({ length }, () => 1 + 0.25 * random());
const layers = Array.from({ length: nLayers }, (_, layer) => ({
  norms: norms.map(([gguf, hf, length]) => ({ gguf, hf, values: normValues(length) })),
  matrices: shapes.map(([gguf, hf, rows, cols], i) => ({ gguf, hf, rows, cols, scale: scaleOf(7 * layer + i), trits: Int8Array.from({ length: rows * cols }, () => Math.round(1.4 * random())) })),
}));
// A block of nothing but zeros, which TQ2_0 writes with scale 0.
layers[0]!.matrices[0]!.trits.fill(0, 512, 768);
const embedding = Float32Array.from({ length: tokens.length * dim }, () => 0.5 * random()), finalNorm = normValues(dim);

const rowsPacked = (trits: Int8Array, rows: number, cols: number): Uint8Array => {
  const n = rows / 4, bytes = new Uint8Array(n * cols);
  trits.forEach((t, i) => { const r = Math.floor(i / cols); bytes[r % n * cols + i % cols]! |= t + 1 << 2 * Math.floor(r / n); });
  return bytes;
};
const i2s = (trits: Int8Array, scale: number): Uint8Array => {
  const bytes = new Uint8Array(trits.length / 4 + 32);
  trits.forEach((t, e) => { bytes[32 * (e >> 7) + (e & 31)]! |= t + 1 << 6 - 2 * (e >> 5 & 3); });
  bytes.set(f32(scale), trits.length / 4);
  return bytes;
};
function tq2(trits: Int8Array, scale: number): Uint8Array {
  // A half by hand: scales are normal numbers of eight bits.
  const exponent = Math.floor(Math.log2(scale)), half = (exponent + 15 << 10) + (scale / 2 ** exponent - 1) * 1024;
  const bytes = new Uint8Array(trits.length / 256 * 66);
  for (let block = 0; block < trits.length / 256; block++) {
    const part = trits.subarray(256 * block, 256 * block + 256), at = 66 * block;
    // The same weights in other ways: any trits times 0, and all of the other sign.
    const isZero = part.every(t => t === 0), isTurned = block % 5 === 3;
    part.forEach((t, e) => { bytes[at + 32 * (e >> 7) + (e & 31)]! |= (isZero ? e % 3 : isTurned ? 1 - t : 1 + t) << 2 * (e >> 5 & 3); });
    if (!isZero) bytes.set([half & 255, half >> 8 | (isTurned ? 0x80 : 0)], at + 64);
  }
  return bytes;
}

/** `divides`: the scale's inverse is stored, which bf16 rounds: left as f32. */
function huggingFace(divides: boolean) {
  const tensors: Tensors = { 'model.embed_tokens.weight': f32Tensor([tokens.length, dim], embedding), 'model.norm.weight': f32Tensor([dim], finalNorm) };
  layers.forEach(({ norms: vectors, matrices }, i) => {
    for (const { hf, values } of vectors) tensors[`model.layers.${i}.${hf}.weight`] = f32Tensor([values.length], values);
    for (const { hf, rows, cols, trits, scale } of matrices) {
      tensors[`model.layers.${i}.${hf}.weight`] = { dtype: 'U8', shape: [rows / 4, cols], bytes: rowsPacked(trits, rows, cols) };
      const high = new Uint16Array(Float32Array.of(scale).buffer)[1]!;
      tensors[`model.layers.${i}.${hf}.weight_scale`] = divides ? f32Tensor([1], Float32Array.of(1 / scale)) : { dtype: 'BF16', shape: [1], bytes: new Uint8Array(Uint16Array.of(high).buffer) };
    }
  });
  const config = {
    architectures: ['BitNetForCausalLM'], model_type: 'bitnet', hidden_size: dim, intermediate_size: hiddenDim, num_hidden_layers: nLayers, num_attention_heads: heads,
    num_key_value_heads: kvHeads, vocab_size: tokens.length, rms_norm_eps: 1e-5, rope_theta: 500000, max_position_embeddings: 64, hidden_act: 'relu2', tie_word_embeddings: true,
    bos_token_id: null, eos_token_id: tokens.indexOf('<end>'), quantization_config: { quant_method: 'bitnet', linear_class: divides ? 'bitlinear' : 'autobitlinear', quantization_mode: 'offline' },
  };
  return hfFolder(config, tensors, { version: '1.0', added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, model: { type: 'BPE', vocab: Object.fromEntries(tokens.map((token, i) => [token, i])), merges: [] } });
}

function gguf(type: 'I2_S' | 'TQ2_0'): Uint8Array {
  const tensors: GgufTensor[] = [{ name: 'token_embd.weight', dims: [dim, tokens.length], type: 0, bytes: bytesOf(embedding) }];
  layers.forEach(({ norms: vectors, matrices }, i) => {
    for (const { gguf: name, values } of vectors) tensors.push({ name: `blk.${i}.${name}.weight`, dims: [values.length], type: 0, bytes: bytesOf(values) });
    for (const { gguf: name, rows, cols, trits, scale } of matrices) tensors.push({ name: `blk.${i}.${name}.weight`, dims: [cols, rows], type: typeIds[type]!, bytes: type === 'I2_S' ? i2s(trits, scale) : tq2(trits, scale) });
  });
  tensors.push({ name: 'output_norm.weight', dims: [dim], type: 0, bytes: bytesOf(finalNorm) });
  const key = (name: string) => `bitnet-b1.58.${name}`;
  return ggufFile({ tensors, entries: [
    ['general.architecture', str('bitnet-b1.58')], [key('block_count'), num(nLayers)], [key('context_length'), num(64)], [key('embedding_length'), num(dim)],
    [key('feed_forward_length'), num(hiddenDim)], [key('attention.head_count'), num(heads)], [key('attention.head_count_kv'), num(kvHeads)],
    [key('attention.layer_norm_rms_epsilon'), float(1e-5)], [key('rope.dimension_count'), num(headDim)], [key('rope.freq_base'), float(500000)],
    ['tokenizer.ggml.model', str('gpt2')], ['tokenizer.ggml.pre', str('gpt-2')], ['tokenizer.ggml.tokens', list(8, tokens.map(text))],
    ['tokenizer.ggml.token_type', list(5, tokens.map(() => u32(1)))], ['tokenizer.ggml.merges', list(8, ['t h', 'th e'].map(text))],
    ['tokenizer.ggml.eos_token_id', num(tokens.indexOf('<end>'))], ['tokenizer.ggml.add_bos_token', bool(false)],
  ] });
}

/** Bytes of every tensor but the tokenizer, and the logits of a prompt. */
async function loaded(path: string, bits: Bits) {
  const found = await detect(path), sink = new MemorySink();
  assert.ok('source' in found);
  await pack(found.source, { bits, embedding: 'f32', threads: 2 }, sink);
  await found.source.close();
  const header = await readPackedHeader(bytesSource(path, sink.bytes));
  const tensors = Object.entries(header.tensors).filter(([name]) => name !== 'tokenizer')
    .map(([name, { begin, end }]) => [name, Buffer.from(sink.bytes.subarray(header.dataOffset + begin, header.dataOffset + end)).toString('base64')]);
  await using model = await loadModel(sink.bytes, { threads: 1 });
  const { logits } = await model.score(Array.from({ length: 30 }, (_, i) => (i * 37 + 5) % 256), { logits: true, from: 0 });
  return { tensors, logits: concat(...logits!.map(bytesOf)), kernels: Object.keys(model.info().kernels) };
}

const folder = mkdtempSync(join(tmpdir(), 'lutra-bitnet-'));
const multiplied = huggingFace(false), divided = huggingFace(true);
test.after(() => {
  multiplied.remove();
  divided.remove();
  rmSync(folder, { recursive: true });
});

for (const bits of ['exact', 'f32'] as const) {
  test(`HF-packed, I2_S and TQ2_0 at ${bits}`, async () => {
    const first = await loaded(multiplied.path, bits);
    assert.equal(first.kernels.sort(), bits === 'exact' ? ['f32', 'ternary'] : ['f32']);
    assert.ok(new Set(first.logits).size > 100);
    for (const type of ['I2_S', 'TQ2_0'] as const) {
      const path = join(folder, `${type}.gguf`);
      writeFileSync(path, gguf(type));
      assert.equal(await loaded(path, bits), first, type);
    }
  });
}

test('scales that divide are those that multiply, up to their own rounding', async () => {
  const [one, other] = [await loaded(multiplied.path, 'exact'), await loaded(divided.path, 'exact')];
  assert.equal(other.tensors.filter(([name]) => !name!.endsWith('rowScale')), one.tensors.filter(([name]) => !name!.endsWith('rowScale')));
  const [a, b] = [one.logits, other.logits].map(bytes => new Float32Array(bytes.slice().buffer));
  assert.ok(a!.every((value, i) => Math.abs(value - b![i]!) < 0.05));
});

test.run();

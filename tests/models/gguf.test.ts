/** The tiny models as GGUF files: the same logits as from their folders. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadModel } from 'lutra';
import { bool, float, ggufFile, list, num, str, text, u32, type Raw, type Tensor as GgufTensor } from '../formats/gguf-file.js';
import { tensorsOf, type Tensor } from '../formats/hf-folder.js';
import { bytesOf } from '../formats/synthetic.js';
import { repoRoot } from '../helpers/paths.js';

const test = suite('architectures in GGUF');
const folder = mkdtempSync(join(tmpdir(), 'lutra-gguf-'));
test.after(() => rmSync(folder, { recursive: true }));

const names: [RegExp, string][] = [
  [/^model\.embed_tokens/, 'token_embd'], [/^model\.norm/, 'output_norm'], [/^lm_head/, 'output'], [/^model\.layers\.(\d+)\./, 'blk.$1.'],
  [/self_attn\.([qkv])_proj/, 'attn_$1'], [/self_attn\.o_proj/, 'attn_output'], [/self_attn\.([qk])_norm/, 'attn_$1_norm'], [/mlp\.(\w+)_proj/, 'ffn_$1'],
  [/input_layernorm/, 'attn_norm'], [/post_attention_layernorm/, 'ffn_norm'],
];

/** As llama.cpp's converter leaves Llama's q and k: row 2i of a head was row i, row 2i + 1 was row i + half. */
function interleaved(bytes: Uint8Array, rows: number, headDim: number): Uint8Array {
  const size = bytes.length / rows, half = headDim / 2, result = new Uint8Array(bytes.length);
  for (let r = 0; r < rows; r++) {
    const inHead = r % headDim, from = r - inHead + (inHead % 2 === 0 ? inHead / 2 : half + (inHead - 1) / 2);
    result.set(bytes.subarray(size * from, size * from + size), size * r);
  }
  return result;
}

const asF32 = ({ bytes }: Tensor) => bytesOf(new Float32Array(Uint32Array.from(new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2), half => half << 16).buffer));

/** What the converter writes for Llama 3: 1 where a wave is short, the factor where it is long, something between. */
function divisors({ rope_theta: theta, rope_scaling: scaling }: any, headDim: number): Float32Array {
  const { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: length } = scaling;
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const turns = length * theta ** (-2 * i / headDim) / (2 * Math.PI), kept = Math.min(1, Math.max(0, (turns - low) / (high - low)));
    return 1 / ((1 - kept) / factor + kept);
  });
}

async function convert(name: string, architecture: string): Promise<string> {
  const path = join(repoRoot, 'tests', 'models', name), config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
  const { vocab } = JSON.parse(readFileSync(join(path, 'tokenizer.json'), 'utf8')).model, headDim = config.head_dim ?? config.hidden_size / config.num_attention_heads;
  const tensors = Object.entries(await tensorsOf(join(path, 'model.safetensors'))).map(([hf, tensor]): GgufTensor => {
    const vector = tensor.shape.length === 1, bytes = vector ? asF32(tensor) : tensor.bytes;
    const turned = architecture === 'llama' && /self_attn\.[qk]_proj/.test(hf) ? interleaved(bytes, tensor.shape[0]!, headDim) : bytes;
    return { name: names.reduce((all, [from, to]) => all.replace(from, to), hf), dims: [...tensor.shape].reverse(), type: vector ? 0 : 30, bytes: turned };
  });
  const rope = config.rope_scaling, key = (one: string) => `${architecture}.${one}`;
  if (rope?.rope_type === 'llama3') tensors.push({ name: 'rope_freqs.weight', dims: [headDim / 2], type: 0, bytes: bytesOf(divisors(config, headDim)) });
  const scaling: [string, Raw][] = rope?.rope_type === 'linear' || rope?.rope_type === 'yarn' ? [[key('rope.scaling.type'), str(rope.rope_type)], [key('rope.scaling.factor'), float(rope.factor)]] : [];
  if (rope?.rope_type === 'yarn') scaling.push([key('rope.scaling.original_context_length'), num(rope.original_max_position_embeddings)]);
  const tokens = Object.keys(vocab), file = join(folder, `${name}.gguf`);
  writeFileSync(file, ggufFile({ tensors, entries: [
    ['general.architecture', str(architecture)], [key('block_count'), num(config.num_hidden_layers)], [key('context_length'), num(config.max_position_embeddings)],
    [key('embedding_length'), num(config.hidden_size)], [key('feed_forward_length'), num(config.intermediate_size)], [key('attention.head_count'), num(config.num_attention_heads)],
    [key('attention.head_count_kv'), num(config.num_key_value_heads)], [key('attention.key_length'), num(headDim)], [key('attention.value_length'), num(headDim)],
    [key('attention.layer_norm_rms_epsilon'), float(config.rms_norm_eps)], [key('rope.freq_base'), float(config.rope_theta)], ...scaling,
    ['tokenizer.ggml.model', str('gpt2')], ['tokenizer.ggml.pre', str('gpt-2')], ['tokenizer.ggml.tokens', list(8, tokens.map(text))],
    ['tokenizer.ggml.token_type', list(5, tokens.map(() => u32(1)))], ['tokenizer.ggml.merges', list(8, ['a b'].map(text))], ['tokenizer.ggml.eos_token_id', num(2)],
    ['tokenizer.ggml.add_bos_token', bool(false)],
  ] }));
  return file;
}

const logitsOf = async (path: string) => {
  await using model = await loadModel(path, { weights: 'f32', threads: 1 });
  const { logits } = await model.score(Array.from({ length: 40 }, (_, i) => 3 + i * 37 % 120), { logits: true, from: 0 });
  return logits!;
};

for (const [name, architecture] of [['llama-biases', 'llama'], ['llama-linear', 'llama'], ['mistral', 'llama'], ['smollm2', 'llama'], ['qwen2', 'qwen2'], ['qwen2-yarn', 'qwen2'], ['qwen3', 'qwen3'], ['llama3', 'llama']] as const) {
  test(`${name}: ${name === 'llama3' ? 'logits up to the rounding of its divisors' : 'logits, bit for bit'}`, async () => {
    const [expected, actual] = [await logitsOf(join(repoRoot, 'tests', 'models', name)), await logitsOf(await convert(name, architecture))];
    const largest = Math.max(...expected.flatMap(row => [...row].map(Math.abs)));
    const error = Math.max(...expected.flatMap((row, i) => [...row].map((value, id) => Math.abs(value - actual[i]![id]!)))) / largest;
    if (name === 'llama3') assert.ok(error < 1e-4, `${error}`);
    else assert.equal(actual, expected);
  });
}

test.run();

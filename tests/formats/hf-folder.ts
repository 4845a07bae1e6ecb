/** Folders of small Hugging Face models. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readSafetensorsHeader } from '../../src/formats/safetensors.js';
import { bytesSource } from '../../src/platform/platform.js';
import { bf16Tensor, f32Tensor, floats, safetensors } from './synthetic.js';

export interface Tensor { dtype: string; shape: number[]; bytes: Uint8Array }
export type Tensors = Record<string, Tensor>;

/** rows of 44 are no multiple of 16, rows of 30 none of 4. */
export const hfConfig = {
  architectures: ['LlamaForCausalLM'], model_type: 'llama', hidden_size: 48, intermediate_size: 44, num_hidden_layers: 2, num_attention_heads: 3,
  num_key_value_heads: 1, head_dim: 10, vocab_size: 40, rms_norm_eps: 1e-6, rope_theta: 10000, max_position_embeddings: 64, hidden_act: 'silu',
  tie_word_embeddings: true, bos_token_id: 0, eos_token_id: [1, 2],
};
export const bitnetConfig = {
  ...hfConfig, architectures: ['BitNetForCausalLM'], model_type: 'bitnet', hidden_act: 'relu2', num_hidden_layers: 1,
  quantization_config: { quant_method: 'bitnet', linear_class: 'autobitlinear', quantization_mode: 'offline' },
};
export const tokenizerJson = {
  version: '1.0', added_tokens: [{ id: 0, content: '<bos>', special: true }], normalizer: null, pre_tokenizer: null, decoder: null,
  post_processor: { type: 'TemplateProcessing', single: [{ SpecialToken: { id: '<bos>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }], pair: [], special_tokens: { '<bos>': { id: '<bos>', ids: [0], tokens: ['<bos>'] } } },
  model: { type: 'BPE', vocab: Object.fromEntries(Array.from({ length: 40 }, (_, i) => [i === 0 ? '<bos>' : String.fromCharCode(64 + i), i])), merges: [] },
};

const linears = (config: typeof hfConfig): [name: string, rows: number, cols: number][] => {
  const { hidden_size: dim, intermediate_size: hidden, num_attention_heads: heads, num_key_value_heads: kv, head_dim: width } = config;
  return [['self_attn.q_proj', heads * width, dim], ['self_attn.k_proj', kv * width, dim], ['self_attn.v_proj', kv * width, dim], ['self_attn.o_proj', dim, heads * width],
    ['mlp.gate_proj', hidden, dim], ['mlp.up_proj', hidden, dim], ['mlp.down_proj', dim, hidden]];
};

export function llamaTensors(config = hfConfig, make: (shape: number[], values: Float32Array) => Tensor = bf16Tensor): Tensors {
  const tensors: Tensors = {};
  let seed = 1;
  const add = (name: string, ...shape: number[]) => { tensors[`${name}.weight`] = make(shape, floats(shape.reduce((a, b) => a * b), seed++)); };
  add('model.embed_tokens', config.vocab_size, config.hidden_size);
  for (let i = 0; i < config.num_hidden_layers; i++) {
    for (const [name, rows, cols] of linears(config)) add(`model.layers.${i}.${name}`, rows, cols);
    add(`model.layers.${i}.input_layernorm`, config.hidden_size);
    add(`model.layers.${i}.post_attention_layernorm`, config.hidden_size);
  }
  add('model.norm', config.hidden_size);
  return tensors;
}

/** The trit of a matrix of the packed model below, by definition of its test data. */
export const trit = (name: string, row: number, col: number): number => (name.length * 7 + row * 5 + col * 3 + (row * col) % 7) % 3 - 1;

/** Packed as BitNet checkpoints are: byte [i][k] = rows i, i + n, i + 2n, i + 3n. */
export function bitnetTensors(config = bitnetConfig, scale = 0.25): Tensors {
  const tensors = llamaTensors(config);
  for (let i = 0; i < config.num_hidden_layers; i++) {
    const layer = `model.layers.${i}`;
    for (const [name, rows, cols] of linears(config)) {
      const n = Math.ceil(rows / 4), bytes = new Uint8Array(n * cols);
      for (let r = 0; r < rows; r++) for (let k = 0; k < cols; k++) bytes[(r % n) * cols + k]! |= trit(name, r, k) + 1 << 2 * Math.floor(r / n);
      tensors[`${layer}.${name}.weight`] = { dtype: 'U8', shape: [n, cols], bytes };
      tensors[`${layer}.${name}.weight_scale`] = bf16Tensor([1], Float32Array.of(scale));
    }
    tensors[`${layer}.self_attn.attn_sub_norm.weight`] = f32Tensor([30], floats(30, 90));
    tensors[`${layer}.mlp.ffn_sub_norm.weight`] = f32Tensor([44], floats(44, 91));
  }
  return tensors;
}

export interface Folder { path: string; write(name: string, content: object | Uint8Array): void; remove(): void }

export function hfFolder(config: object, tensors: Tensors, tokenizer: object = tokenizerJson): Folder {
  const path = mkdtempSync(join(tmpdir(), 'lutra-hf-'));
  const folder: Folder = {
    path,
    write: (name, content) => writeFileSync(join(path, name), content instanceof Uint8Array ? content : JSON.stringify(content)),
    remove: () => rmSync(path, { recursive: true }),
  };
  folder.write('config.json', config);
  folder.write('tokenizer.json', tokenizer);
  folder.write('model.safetensors', safetensors(tensors, { format: 'pt' }));
  return folder;
}

/** All tensors of a safetensors file. */
export async function tensorsOf(path: string): Promise<Tensors> {
  const bytes = new Uint8Array(readFileSync(path)), { tensors, dataOffset } = await readSafetensorsHeader(bytesSource(path, bytes));
  return Object.fromEntries([...tensors].map(([name, { dtype, shape, begin, end }]) => [name, { dtype, shape, bytes: bytes.slice(dataOffset + begin, dataOffset + end) }]));
}

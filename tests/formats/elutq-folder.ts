/** Folders as ELUTQ exports them, with random numbers. */
import { hfConfig, tokenizerJson } from './hf-folder.js';

export const elutqConfig = {
  ...hfConfig, hidden_size: 128, intermediate_size: 160, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 32, num_hidden_layers: 2, torch_dtype: 'float16',
};
/** Folder, rows, columns, planes, group size: every number of planes, groups that have kernels. */
export const elutqLayers: [string, number, number, number, number][] = [
  ['self_attn.q_proj', 128, 128, 2, 32], ['self_attn.k_proj', 64, 128, 4, 64], ['self_attn.v_proj', 64, 128, 3, 128], ['self_attn.o_proj', 128, 128, 2, 32],
  ['mlp.gate_proj', 160, 128, 1, 64], ['mlp.up_proj', 160, 128, 2, 64], ['mlp.down_proj', 128, 160, 2, 32],
];

let state = 1;
export const random = (): number => (state = Math.imul(state, 1664525) + 1013904223 >>> 0) >>> 8;
export const bytes = (count: number): Uint8Array => Uint8Array.from({ length: count }, random);
/** Halves between 2^-7 and 2^-3, of either sign. */
export const halves = (count: number): Uint8Array => new Uint8Array(Uint16Array.from({ length: count }, () => (random() & 0x8000) | 0x2000 + (random() & 0x0fff)).buffer);

/** Files by path, without the group size, as the exporter writes them. */
export function elutqFiles(tied = true): Record<string, Uint8Array | object> {
  const files: Record<string, Uint8Array | object> = { 'config.json': { ...elutqConfig, tie_word_embeddings: tied }, 'tokenizer.json': tokenizerJson }, dim = elutqConfig.hidden_size;
  for (const name of tied ? ['shared_embed_lm_head.bin'] : ['embed_tokens.bin', 'lm_head.bin']) files[name] = halves(elutqConfig.vocab_size * dim);
  files['final_rmsnorm_weight.bin'] = halves(dim);
  for (let i = 0; i < elutqConfig.num_hidden_layers; i++) {
    for (const norm of ['input', 'post_attention']) files[`${i}/${norm}_layernorm_weight.bin`] = halves(dim);
    for (const [layer, rows, cols, planes, groupSize] of elutqLayers) {
      const at = `${i}/${layer}`, groups = cols / groupSize;
      files[`${at}/w_quant.bin`] = bytes(planes * rows * cols / 8);
      files[`${at}/w_scale.bin`] = halves(planes * rows * groups);
      files[`${at}/w_zero.bin`] = halves(rows * groups);
      files[`${at}/weight_config.json`] = { weight_data_len: planes * rows * cols / 8, base_bit: planes, use_sparse: false, in_channel: cols, out_channel: rows, has_bias: false };
    }
  }
  return files;
}

/** GGUF files made by hand: sound ones, and as broken as a test wants them. */
import { bytesOf, concat, floats } from './synthetic.js';
import { blockTypes, randomBlocks } from './gguf-blocks.js';

export const typeIds: Record<string, number> = {
  F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7, Q8_0: 8, Q2_K: 10, Q3_K: 11, Q4_K: 12, Q5_K: 13, Q6_K: 14, BF16: 30, TQ1_0: 34, TQ2_0: 35, I2_S: 36,
};

export const u32 = (value: number): Uint8Array => { const b = new Uint8Array(4); new DataView(b.buffer).setUint32(0, value, true); return b; };
export const u64 = (value: number | bigint): Uint8Array => { const b = new Uint8Array(8); new DataView(b.buffer).setBigUint64(0, BigInt(value), true); return b; };
export const f32 = (value: number): Uint8Array => { const b = new Uint8Array(4); new DataView(b.buffer).setFloat32(0, value, true); return b; };
export const text = (value: string): Uint8Array => { const b = new TextEncoder().encode(value); return concat(u64(b.length), b); };

/** A metadata value: its type id and bytes. */
export type Raw = [type: number, bytes: Uint8Array];
export const num = (value: number): Raw => [4, u32(value)];
export const float = (value: number): Raw => [6, f32(value)];
export const bool = (value: boolean): Raw => [7, Uint8Array.of(value ? 1 : 0)];
export const str = (value: string): Raw => [8, text(value)];
export const list = (type: number, items: Uint8Array[], count: number | bigint = items.length): Raw => [9, Buffer.concat([u32(type), u64(count), ...items])];

export interface Tensor { name: string; dims: (number | bigint)[]; type: number; bytes: Uint8Array; offset?: number | bigint; nDims?: number }

export interface Parts {
  magic?: string;
  version?: number;
  nTensors?: number | bigint;
  nEntries?: number | bigint;
  entries: [key: string, value: Raw][];
  tensors: Tensor[];
  /** Really used; what the metadata says is an entry. */
  alignment?: number;
}

export function ggufFile(parts: Parts): Uint8Array<ArrayBuffer> {
  return concat(ggufHeader(parts), ...parts.tensors.map(({ bytes }) => pad(bytes, parts.alignment)));
}

const pad = (bytes: Uint8Array, alignment = 32) => concat(bytes, new Uint8Array(Math.ceil(bytes.length / alignment) * alignment - bytes.length));

/** All that comes before the tensors' bytes, of which only the number counts. */
export function ggufHeader({ magic = 'GGUF', version = 3, entries, tensors, nTensors = tensors.length, nEntries = entries.length, alignment = 32 }:
  Omit<Parts, 'tensors'> & { tensors: (Omit<Tensor, 'bytes'> & { bytes: { length: number } })[] }): Uint8Array<ArrayBuffer> {
  const padded = (length: number) => Math.ceil(length / alignment) * alignment;
  let end = 0;
  const infos = tensors.map(({ name, dims, type, bytes, offset, nDims = dims.length }) => {
    const info = concat(text(name), u32(nDims), ...dims.map(u64), u32(type), u64(offset ?? end));
    end += padded(bytes.length);
    return info;
  });
  const header = concat(new TextEncoder().encode(magic), u32(version), u64(nTensors), u64(nEntries),
    ...entries.map(([key, [type, bytes]]) => concat(text(key), u32(type), bytes)), ...infos);
  return pad(header, alignment);
}

export interface Shape { dim: number; hiddenDim: number; nLayers: number; nHeads: number; nHeadsKv: number }
export const small: Shape = { dim: 8, hiddenDim: 12, nLayers: 2, nHeads: 2, nHeadsKv: 1 };
/** Rows that fill the largest blocks; `down` is cut into segments. */
export const wide: Shape = { dim: 256, hiddenDim: 512, nLayers: 1, nHeads: 4, nHeadsKv: 2 };

/** Byte-level vocabulary: a letter for each byte, two words, and a control token that ends texts. */
export const tokens = (() => {
  const printable = (byte: number) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 0x100;
  return [...Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++)), 'th', 'the', '<end>'];
})();

/** A whole Llama model with its linear layers in `type`. */
export function tinyParts(type = 'F32', shape = small, { untied = false, embedding = 'F32' } = {}): Parts {
  const { dim, hiddenDim, nLayers, nHeads, nHeadsKv } = shape, kv = dim / nHeads * nHeadsKv;
  const tensors: Tensor[] = [];
  const matrix = (name: string, rows: number, cols: number, one = type) => {
    const blocks = blockTypes[one], seed = tensors.length + 1;
    const bytes = blocks ? randomBlocks(one, rows * cols / blocks.elements, seed)
      : one === 'F32' ? bytesOf(floats(rows * cols, seed)) : bytesOf(Uint16Array.from({ length: rows * cols }, (_, i) => (i * 2654435761 + seed >>> 7) & 0xbfff));
    tensors.push({ name, dims: [cols, rows], type: typeIds[one]!, bytes });
  };
  const norm = (name: string) => tensors.push({ name, dims: [dim], type: 0, bytes: bytesOf(floats(dim, tensors.length + 1)) });
  matrix('token_embd.weight', tokens.length, dim, embedding);
  for (let i = 0; i < nLayers; i++) {
    norm(`blk.${i}.attn_norm.weight`);
    matrix(`blk.${i}.attn_q.weight`, dim, dim);
    matrix(`blk.${i}.attn_k.weight`, kv, dim);
    matrix(`blk.${i}.attn_v.weight`, kv, dim);
    matrix(`blk.${i}.attn_output.weight`, dim, dim);
    norm(`blk.${i}.ffn_norm.weight`);
    matrix(`blk.${i}.ffn_gate.weight`, hiddenDim, dim);
    matrix(`blk.${i}.ffn_up.weight`, hiddenDim, dim);
    matrix(`blk.${i}.ffn_down.weight`, dim, hiddenDim);
  }
  norm('output_norm.weight');
  if (untied) matrix('output.weight', tokens.length, dim);
  return {
    tensors,
    entries: [
      ['general.architecture', str('llama')], ['general.name', str('tiny')], ['general.languages', list(8, [text('en')])],
      ['llama.block_count', num(nLayers)], ['llama.context_length', num(64)], ['llama.embedding_length', num(dim)], ['llama.feed_forward_length', num(hiddenDim)],
      ['llama.attention.head_count', num(nHeads)], ['llama.attention.head_count_kv', num(nHeadsKv)], ['llama.attention.layer_norm_rms_epsilon', float(1e-5)],
      ['llama.rope.dimension_count', num(dim / nHeads)], ['llama.rope.freq_base', float(10000)],
      ['tokenizer.ggml.model', str('gpt2')], ['tokenizer.ggml.pre', str('gpt-2')],
      ['tokenizer.ggml.tokens', list(8, tokens.map(text))], ['tokenizer.ggml.token_type', list(5, tokens.map(token => u32(token === '<end>' ? 3 : 1)))],
      ['tokenizer.ggml.merges', list(8, ['t h', 'th e'].map(text))], ['tokenizer.ggml.eos_token_id', num(tokens.indexOf('<end>'))],
      ['tokenizer.ggml.add_bos_token', bool(false)],
    ],
  };
}

/** About the smallest that the engine runs, with a chat template that wants no system messages. */
export function chattyFile(): Uint8Array<ArrayBuffer> {
  const parts = tinyParts('F32', { dim: 32, hiddenDim: 64, nLayers: 1, nHeads: 2, nHeadsKv: 1 });
  const template = '{% for m in messages %}{% if m.role == "system" %}{{ raise_exception("no system") }}{% endif %}{{ m.content }}<end>{% endfor %}';
  return ggufFile({ ...parts, entries: [...parts.entries, ['tokenizer.chat_template', str(template)]] });
}

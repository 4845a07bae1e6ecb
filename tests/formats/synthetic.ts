/** Small model files made on the fly. */
import { serialiseSafetensorsHeader } from '../../src/formats/safetensors.js';
import type { TensorInfo } from '../../src/formats/types.js';

/** Reproducible numbers, roughly normal with deviation 0.5. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = () => (state = Math.imul(state, 1664525) + 1013904223 >>> 0) / 2 ** 32;
  return () => Math.fround((uniform() + uniform() + uniform() + uniform() - 2) * 0.9);
}

export const floats = (count: number, seed: number): Float32Array => {
  const next = random(seed);
  return Float32Array.from({ length: count }, next);
};

export const concat = (...chunks: Uint8Array[]): Uint8Array<ArrayBuffer> => {
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
};
export const bytesOf = (values: ArrayBufferView): Uint8Array => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** A tokenizer.bin: the 259 fixed pieces and these. */
export function tokenizerBin(pieces: { text: string; score: number }[]): Uint8Array<ArrayBuffer> {
  const fixed = ['<unk>', '\n<s>\n', '\n</s>\n', ...Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)];
  const all = [...fixed.map(text => ({ text, score: 0 })), ...pieces].map(({ text, score }) => ({ bytes: new TextEncoder().encode(text), score }));
  const entries = all.map(({ bytes, score }) => concat(bytesOf(Float32Array.of(score)), bytesOf(Uint32Array.of(bytes.length)), bytes));
  return concat(bytesOf(Uint32Array.of(16)), ...entries);
}

export interface TinyShape { dim: number; hiddenDim: number; nLayers: number; nHeads: number; nHeadsKv: number; vocabSize: number; contextLength: number }
export const tiny: TinyShape = { dim: 24, hiddenDim: 44, nLayers: 2, nHeads: 3, nHeadsKv: 1, vocabSize: 262, contextLength: 16 };
export const tinyTokenizer = tokenizerBin([{ text: 'a', score: 0 }, { text: 'b', score: -1 }, { text: ' ', score: -2 }]);

/** Weights by tensor, in llama2.c's row order. */
export function llama2cWeights(shape: TinyShape, untied = false): Record<string, Float32Array> {
  const { dim, hiddenDim, nLayers, nHeads, nHeadsKv, vocabSize } = shape, kv = dim * nHeadsKv / nHeads;
  const sizes: Record<string, number> = {
    embedding: vocabSize * dim, 'attn.norm': nLayers * dim, 'attn.q': nLayers * dim * dim, 'attn.k': nLayers * kv * dim, 'attn.v': nLayers * kv * dim,
    'attn.o': nLayers * dim * dim, 'ffn.norm': nLayers * dim, 'ffn.gate': nLayers * hiddenDim * dim, 'ffn.down': nLayers * dim * hiddenDim,
    'ffn.up': nLayers * hiddenDim * dim, norm: dim, ...(untied && { head: vocabSize * dim }),
  };
  return Object.fromEntries(Object.entries(sizes).map(([name, size], i) => [name, floats(size, 100 + i)]));
}

/** A checkpoint of version 0, 1 or 2 (groups of `group`). */
export function llama2cFile(shape: TinyShape, version: 0 | 1 | 2, { untied = false, group = 8 } = {}): Uint8Array<ArrayBuffer> {
  const w = llama2cWeights(shape, untied);
  const { dim, hiddenDim, nLayers, nHeads, nHeadsKv, vocabSize, contextLength } = shape;
  const sizes = Int32Array.of(dim, hiddenDim, nLayers, nHeads, nHeadsKv, version === 0 && untied ? -vocabSize : vocabSize, contextLength);
  const matrices = ['embedding', 'attn.q', 'attn.k', 'attn.v', 'attn.o', 'ffn.gate', 'ffn.down', 'ffn.up', ...untied ? ['head'] : []];
  if (version === 0) {
    const order = ['embedding', 'attn.norm', 'attn.q', 'attn.k', 'attn.v', 'attn.o', 'ffn.norm', 'ffn.gate', 'ffn.down', 'ffn.up', 'norm'];
    const frequencies = new Float32Array(contextLength * dim / nHeads);
    return concat(bytesOf(sizes), ...order.map(name => bytesOf(w[name]!)), bytesOf(frequencies), ...untied ? [bytesOf(w.head!)] : []);
  }
  const header = new Uint8Array(256);
  header.set(concat(bytesOf(Uint32Array.of(0x616b3432, version)), bytesOf(sizes), Uint8Array.of(untied ? 0 : 1), bytesOf(Int32Array.of(version === 2 ? group : 0))));
  const norms = ['attn.norm', 'ffn.norm', 'norm'].map(name => bytesOf(w[name]!));
  const layersOf = (name: string) => ['embedding', 'head'].includes(name) ? 1 : nLayers;
  const data = matrices.flatMap(name => version === 1 ? [bytesOf(w[name]!)] : split(w[name]!, layersOf(name)).flatMap(layer => q8(layer, group)));
  return concat(header, ...norms, ...data);
}

const split = (values: Float32Array, parts: number) =>
  Array.from({ length: parts }, (_, i) => values.subarray(i * values.length / parts, (i + 1) * values.length / parts));

/** llama2.c's Q8_0: codes, then scales. */
export function q8(values: Float32Array, group: number): [Uint8Array, Uint8Array] {
  const codes = new Int8Array(values.length), scales = new Float32Array(values.length / group);
  for (let g = 0; g < scales.length; g++) {
    const part = values.subarray(g * group, (g + 1) * group);
    scales[g] = Math.max(...part.map(Math.abs)) / 127;
    part.forEach((value, i) => { codes[g * group + i] = Math.round(value / scales[g]!); });
  }
  return [bytesOf(codes), bytesOf(scales)];
}

/** A safetensors file. */
export function safetensors(tensors: Record<string, { dtype: string; shape: number[]; bytes: Uint8Array }>, metadata: Record<string, string> = {}): Uint8Array<ArrayBuffer> {
  let at = 0;
  const infos = Object.entries(tensors).map(([name, { dtype, shape, bytes }]): [string, TensorInfo] => [name, { dtype, shape, begin: at, end: at += bytes.length }]);
  return concat(serialiseSafetensorsHeader(metadata, infos, 8), ...Object.values(tensors).map(tensor => tensor.bytes));
}

export const f32Tensor = (shape: number[], values: Float32Array) => ({ dtype: 'F32', shape, bytes: bytesOf(values) });
export const bf16Tensor = (shape: number[], values: Float32Array) =>
  ({ dtype: 'BF16', shape, bytes: bytesOf(Uint16Array.from(new Uint32Array(values.buffer.slice(values.byteOffset, values.byteOffset + values.byteLength)), bits => bits >>> 16)) });

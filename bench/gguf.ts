/** GGUF files of real shapes with random valid weights: what the peers run. */
import { open, rename, rm, stat } from 'node:fs/promises';
import { blockTypes, randomBlocks } from '../tests/formats/gguf-blocks.js';
import { bool, float, list, num, str, text, typeIds, u32, u64, f32, type Raw } from '../tests/formats/gguf-file.js';
import type { Shape } from './shapes.js';

/** The head's type in llama.cpp's own files of few bits. */
const HEAD = 'Q6_K';
/** Blocks that are made; matrices repeat them. */
const DISTINCT = 4096;
const ALIGNMENT = 32;
/** Larger files are split: browsers read no more than 2 GB at once. */
const LARGEST = 1.9e9;

interface Tensor { name: string; dims: number[]; type: string; bytes: number }

const up = (n: number) => Math.ceil(n / ALIGNMENT) * ALIGNMENT;

function tensorsOf({ dim, hiddenDim, nLayers, nHeads, nHeadsKv, vocabSize }: Shape, type: string): Tensor[] {
  const tensors: Tensor[] = [], kv = dim / nHeads * nHeadsKv;
  const matrix = (name: string, rows: number, cols: number, of = type) => {
    const { elements, bytes } = blockTypes[of]!;
    tensors.push({ name: `${name}.weight`, dims: [cols, rows], type: of, bytes: rows * cols / elements * bytes });
  };
  const norm = (name: string) => tensors.push({ name: `${name}.weight`, dims: [dim], type: 'F32', bytes: 4 * dim });
  matrix('token_embd', vocabSize, dim);
  for (let i = 0; i < nLayers; i++) {
    norm(`blk.${i}.attn_norm`);
    matrix(`blk.${i}.attn_q`, dim, dim);
    matrix(`blk.${i}.attn_k`, kv, dim);
    matrix(`blk.${i}.attn_v`, kv, dim);
    matrix(`blk.${i}.attn_output`, dim, dim);
    norm(`blk.${i}.ffn_norm`);
    matrix(`blk.${i}.ffn_gate`, hiddenDim, dim);
    matrix(`blk.${i}.ffn_up`, hiddenDim, dim);
    matrix(`blk.${i}.ffn_down`, dim, hiddenDim);
  }
  norm('output_norm');
  matrix('output', vocabSize, dim, HEAD);
  return tensors;
}

/** A SentencePiece vocabulary of that many tokens: three special ones, the bytes, then a, b, … z, aa, ab … */
function vocabulary(size: number): { tokens: string[]; types: number[] } {
  const tokens = ['<unk>', '<s>', '</s>'], types = [2, 3, 3];
  for (let byte = 0; byte < 256; byte++) tokens.push(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`), types.push(6);
  tokens.push('▁'), types.push(1);
  for (let i = 0; tokens.length < size; i++) {
    let word = '';
    for (let n = i; n >= 0; n = Math.floor(n / 26) - 1) word = String.fromCharCode(97 + n % 26) + word;
    tokens.push(word), types.push(1);
  }
  return { tokens: tokens.slice(0, size), types: types.slice(0, size) };
}

function metadataOf(shape: Shape, type: string): [string, Raw][] {
  const { tokens, types } = vocabulary(shape.vocabSize);
  return [
    ['general.architecture', str('llama')], ['general.name', str(`random ${type}`)], ['general.alignment', num(ALIGNMENT)],
    ['llama.block_count', num(shape.nLayers)], ['llama.context_length', num(8192)], ['llama.embedding_length', num(shape.dim)],
    ['llama.feed_forward_length', num(shape.hiddenDim)], ['llama.attention.head_count', num(shape.nHeads)], ['llama.attention.head_count_kv', num(shape.nHeadsKv)],
    ['llama.attention.layer_norm_rms_epsilon', float(1e-5)], ['llama.rope.dimension_count', num(shape.dim / shape.nHeads)],
    ['llama.rope.freq_base', float(10000)], ['llama.vocab_size', num(shape.vocabSize)],
    ['tokenizer.ggml.model', str('llama')], ['tokenizer.ggml.tokens', list(8, tokens.map(text))],
    ['tokenizer.ggml.scores', list(6, tokens.map((_, i) => f32(-i)))], ['tokenizer.ggml.token_type', list(5, types.map(u32))],
    ['tokenizer.ggml.bos_token_id', num(1)], ['tokenizer.ggml.eos_token_id', num(2)], ['tokenizer.ggml.unknown_token_id', num(0)],
    ['tokenizer.ggml.add_bos_token', bool(true)],
  ];
}

function headerOf(metadata: [string, Raw][], tensors: Tensor[]): Buffer {
  let offset = 0;
  const infos = tensors.map(({ name, dims, type: of, bytes }) => {
    const info = Buffer.concat([text(name), u32(dims.length), ...dims.map(u64), u32(typeIds[of]!), u64(offset)]);
    offset += up(bytes);
    return info;
  });
  const header = Buffer.concat([Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(metadata.length),
    ...metadata.map(([key, [id, bytes]]) => Buffer.concat([text(key), u32(id), bytes])), ...infos]);
  return Buffer.concat([header, Buffer.alloc(up(header.length) - header.length)]);
}

const u16 = (value: number): Raw => [2, u32(value).subarray(0, 2)];
const i32 = (value: number): Raw => [5, u32(value)];

interface Part { path: string; header: Buffer; tensors: Tensor[] }

/** One file, or as many as keep the tensors of each below `largest` bytes; the first holds the metadata. */
function partsOf(path: string, shape: Shape, type: string, largest: number): Part[] {
  const tensors = tensorsOf(shape, type), runs: Tensor[][] = [[]];
  let size = 0;
  for (const tensor of tensors) {
    if (size > 0 && size + tensor.bytes > largest) [size] = [0, runs.push([])];
    size += up(tensor.bytes);
    runs.at(-1)!.push(tensor);
  }
  const metadata = metadataOf(shape, type), five = (n: number) => String(n).padStart(5, '0');
  if (runs.length === 1) return [{ path, header: headerOf(metadata, tensors), tensors }];
  return runs.map((run, i) => {
    const split: [string, Raw][] = [['split.no', u16(i)], ['split.count', u16(runs.length)], ['split.tensors.count', i32(tensors.length)]];
    return { path: path.replace(/\.gguf$/, `-${five(i + 1)}-of-${five(runs.length)}.gguf`), header: headerOf(i === 0 ? [...metadata, ...split] : split, run), tensors: run };
  });
}

/** Bytes of the matrices that a decode step reads: all but the embedding. */
export function streamedGguf(shape: Shape, type: string): number {
  return tensorsOf(shape, type).reduce((sum, { name, dims, bytes }) => dims.length < 2 || name.startsWith('token_embd') ? sum : sum + bytes, 0);
}

/** Writes the file, or its parts, unless they are there. @returns their paths, the first one first */
export async function writeGguf(path: string, shape: Shape, type: string, largest = LARGEST): Promise<string[]> {
  const parts = partsOf(path, shape, type, largest), noise = new Map<string, Uint8Array>();
  for (const part of parts) await writePart(part, noise);
  return parts.map(part => part.path);
}

async function writePart({ path, header, tensors }: Part, noise: Map<string, Uint8Array>): Promise<void> {
  const size = tensors.reduce((sum, { bytes }) => sum + up(bytes), header.length);
  if ((await stat(path).catch(() => null))?.size === size) return;
  const temporary = `${path}.${process.pid}.tmp`, file = await open(temporary, 'w');
  try {
    await file.write(header);
    for (const { type: of, bytes, dims } of tensors) {
      if (of === 'F32') {
        await file.write(Buffer.from(new Float32Array(dims[0]!).fill(1).buffer));
      } else {
        if (!noise.has(of)) noise.set(of, randomBlocks(of, DISTINCT, noise.size + 1));
        const blocks = noise.get(of)!;
        for (let left = bytes; left > 0; left -= blocks.length) await file.write(blocks, 0, Math.min(left, blocks.length));
      }
      await file.write(Buffer.alloc(up(bytes) - bytes));
    }
    await file.close();
    await rename(temporary, path);
  } catch (error) {
    await file.close();
    await rm(temporary, { force: true });
    throw error;
  }
}

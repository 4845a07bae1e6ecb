/** GGUF files of the Llama architecture, whole or split. */
import { BadModelFileError, UnsupportedFormatError } from '../errors.js';
import { openFile } from '../platform/platform.js';
import { readBytes } from './bytes.js';
import { checkConfig } from './config.js';
import { readGguf, type Gguf, type GgufTensor, type Metadata } from './gguf.js';
import { readGgufTokenizer } from './gguf-tokenizer.js';
import { linearShapes, vectorLengths } from './packed.js';
import { adjacentPairRow, type Encoding, type SourceMatrix, type SourceModel } from './source.js';
import type { ByteSource, ModelConfig } from './types.js';

/** Of the model, for people. */
const LONGEST_NAME = 200;

const encodings: Record<string, Encoding> = {
  F32: 'f32', F16: 'f16', BF16: 'bf16', Q4_0: 'q4_0', Q4_1: 'q4_1', Q5_0: 'q5_0', Q5_1: 'q5_1', Q8_0: 'q8_0',
  Q2_K: 'q2_k', Q3_K: 'q3_k', Q4_K: 'q4_k', Q5_K: 'q5_k', Q6_K: 'q6_k', TQ1_0: 'tq1_0', TQ2_0: 'tq2_0',
};

const names: Record<string, string> = {
  'attn.q': 'attn_q', 'attn.k': 'attn_k', 'attn.v': 'attn_v', 'attn.o': 'attn_output', 'ffn.gate': 'ffn_gate', 'ffn.up': 'ffn_up', 'ffn.down': 'ffn_down',
  'attn.norm': 'attn_norm', 'ffn.norm': 'ffn_norm',
};

/** `layers.3.attn.q` -> `blk.3.attn_q.weight` */
function ggufName(name: string): string {
  const top = { embedding: 'token_embd', norm: 'output_norm', head: 'output' }[name];
  if (top) return `${top}.weight`;
  const [, layer, rest] = /^layers\.(\d+)\.(.+)$/.exec(name)!;
  return `blk.${layer}.${names[rest!]}.weight`;
}

/** `file` is closed by the model's `close()`, or by the caller when this rejects. */
export async function importGguf(file: ByteSource): Promise<SourceModel> {
  const others: ByteSource[] = [];
  try {
    const { metadata, tensors } = await readParts(file, others);
    const architecture = metadata.string('general.architecture');
    if (architecture !== 'llama') {
      throw new UnsupportedFormatError(file.name, 'general.architecture', `${JSON.stringify(architecture ?? null)} is not supported`, 'Models of architecture "llama" are.');
    }
    const { tokenizerJson, chat, ...tokens } = readGgufTokenizer(metadata, file.name);
    const config = readConfig(metadata, tensors, tokens, file.name);
    const files = [file, ...others], name = metadata.string('general.name')?.slice(0, LONGEST_NAME);
    return {
      config, tokenizerJson, chat, ...await collect(tensors, config, file.name), defaultBits: 'exact',
      bytes: files.reduce((sum, { size }) => sum + size, 0),
      provenance: { format: 'GGUF', ...(name && { name }) },
      close: async () => { await Promise.all(files.map(one => one.close())); },
    };
  } catch (error) {
    await Promise.all(others.map(one => one.close()));
    throw error;
  }
}

/** The file and, where it is the first of several (NAME-00001-of-0000N.gguf), the tensors of all of them. */
async function readParts(file: ByteSource, others: ByteSource[]): Promise<Gguf> {
  const first = await readGguf(file);
  const count = first.metadata.number('split.count') ?? 1;
  if (count <= 1) return first;
  const named = /^(.*)-00001-of-(\d{5})\.gguf$/.exec(file.name);
  if (!named || Number(named[2]) !== count || first.metadata.number('split.no') !== 0) {
    throw new BadModelFileError(file.name, 'split.count', `is a part of ${count}, but is not named as their first`, `Open the file whose name ends in -00001-of-${String(count).padStart(5, '0')}.gguf, with the others beside it.`);
  }
  const tensors = new Map(first.tensors);
  for (let no = 1; no < count; no++) {
    const part = await openFile(`${named[1]}-${String(no + 1).padStart(5, '0')}-of-${named[2]}.gguf`);
    others.push(part);
    const { metadata, tensors: more } = await readGguf(part);
    for (const [field, want] of [['split.no', no], ['split.count', count]] as const) {
      const actual = metadata.number(field);
      if (actual !== want) throw new BadModelFileError(part.name, field, `${actual} instead of ${want}`);
    }
    for (const [name, tensor] of more) {
      if (tensors.has(name)) throw new BadModelFileError(part.name, name, `is in ${tensors.get(name)!.file.name} too`);
      tensors.set(name, tensor);
    }
  }
  const total = first.metadata.number('split.tensors.count');
  if (total !== undefined && total !== tensors.size) throw new BadModelFileError(file.name, 'split.tensors.count', `${total}, but ${tensors.size} are there`);
  return { metadata: first.metadata, tensors };
}

function readConfig(metadata: Metadata, tensors: Map<string, GgufTensor>, { size, bosId, addBos, eosIds }: Tokens, path: string): ModelConfig {
  const refuse = (field: string, problem: string, hint: string): never => { throw new UnsupportedFormatError(path, field, problem, hint); };
  const embedding = tensors.get('token_embd.weight');
  if (!embedding) return refuse('token_embd.weight', 'there is no such tensor: a vocabulary without a model?', 'Give a file that holds the whole model.');

  const number = (key: string) => metadata.number(`llama.${key}`);
  const required = (key: string) => {
    const value = number(key);
    if (value === undefined) throw new BadModelFileError(path, `llama.${key}`, 'is missing');
    return value;
  };
  const nHeads = required('attention.head_count'), dim = required('embedding_length');
  const headDim = number('attention.key_length') ?? dim / nHeads;
  const config = checkConfig({
    architecture: 'llama',
    dim,
    hiddenDim: required('feed_forward_length'),
    nLayers: required('block_count'),
    nHeads,
    nHeadsKv: number('attention.head_count_kv') ?? nHeads,
    headDim,
    vocabSize: embedding.dims[1],
    contextLength: required('context_length'),
    normEps: required('attention.layer_norm_rms_epsilon'),
    ropeTheta: number('rope.freq_base') ?? 10000,
    activation: 'silu',
    tiedHead: !tensors.has('output.weight'),
    bosId, eosIds, addBos,
  }, path);
  if (size !== config.vocabSize) throw new BadModelFileError(path, 'tokenizer.ggml.tokens', `${size} tokens, token_embd.weight has ${config.vocabSize} rows`);
  if (config.nLayers > tensors.size) throw new BadModelFileError(path, 'llama.block_count', `${config.nLayers} layers, ${tensors.size} tensors`);

  // What the engine would compute wrongly.
  const scaling = metadata.string('llama.rope.scaling.type') ?? 'none';
  if (scaling !== 'none') refuse('llama.rope.scaling.type', `${JSON.stringify(scaling)} is not supported`, 'Use a model with plain rotary embeddings.');
  if (tensors.has('rope_freqs.weight')) refuse('rope_freqs.weight', 'scaled rotary embeddings (Llama 3.1 and later) are not supported', 'Use a model with plain rotary embeddings.');
  const plain: [key: string, value: number, hint: string][] = [
    ['attention.value_length', headDim, 'Use a model whose keys and values are equally long.'],
    ['rope.dimension_count', headDim, 'Use a model that rotates whole heads.'],
    ['rope.scale_linear', 1, 'Use a model with plain rotary embeddings.'],
    ['expert_count', 0, 'Use a model without experts.'],
    ['attention.sliding_window', 0, 'Use a model with full attention.'],
  ];
  for (const [key, value, hint] of plain) {
    const actual = number(key) ?? value;
    if (actual !== value) refuse(`llama.${key}`, `${actual} is not supported, only ${value}`, hint);
  }
  return config;
}

type Tokens = Omit<ReturnType<typeof readGgufTokenizer>, 'tokenizerJson' | 'chat'>;

/** Tensors -> matrices and norms. Every tensor must find its place. */
async function collect(tensors: Map<string, GgufTensor>, config: ModelConfig, path: string): Promise<Pick<SourceModel, 'matrices' | 'vectors'>> {
  const used = new Set<string>();
  const find = (name: string, dims: number[]): GgufTensor => {
    const tensor = tensors.get(name);
    if (!tensor) throw new BadModelFileError(path, name, 'is missing');
    if (tensor.dims.join() !== dims.join()) throw new BadModelFileError(tensor.file.name, name, `[${tensor.dims}], the metadata implies [${dims}]`);
    used.add(name);
    return tensor;
  };
  const matrices = new Map<string, SourceMatrix>(), vectors = new Map<string, Float32Array>();
  for (const { name, rows, cols } of linearShapes(config)) {
    const tensorName = ggufName(name), { type, file, begin } = find(tensorName, [cols, rows]);
    const encoding = encodings[type.name];
    if (!encoding) throw new UnsupportedFormatError(file.name, tensorName, `weights of type ${type.name}`, `${Object.keys(encodings).join(', ')} are read: use the model in one of these.`);
    const length = cols / type.elements * type.bytes;
    // llama.cpp's converter interleaves the halves of each head.
    const row = /attn\.[qk]$/.test(name) ? (r: number) => adjacentPairRow(r, config.headDim) : (r: number) => r;
    matrices.set(name, { name: tensorName, rows, cols, encoding, codes: { file, length, offset: r => begin + length * row(r) } });
  }
  for (const [name, length] of vectorLengths(config, new Set())) {
    const tensorName = ggufName(name), { type, file, begin } = find(tensorName, [length]);
    if (type.name !== 'F32') throw new UnsupportedFormatError(file.name, tensorName, `a norm of type ${type.name}`, 'Norms of type F32 are read: convert the model with current tools.');
    vectors.set(name, new Float32Array((await readBytes(file, begin, 4 * length, tensorName)).buffer));
  }
  for (const [name, { file }] of tensors) {
    if (!used.has(name)) throw new UnsupportedFormatError(file.name, name, 'a tensor that plain Llama models do not have', 'The model would compute something else.');
  }
  return { matrices, vectors };
}

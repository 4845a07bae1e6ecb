/** GGUF files of Llama's relatives, whole or split. */
import { BadModelFileError, UnsupportedFormatError } from '../errors.js';
import { readBytes, shown } from './bytes.js';
import { checkConfig } from './config.js';
import { openFile } from './files.js';
import { readGguf, type Gguf, type GgufTensor, type Metadata } from './gguf.js';
import { readGgufTokenizer } from './gguf-tokenizer.js';
import { ROPE_DIVISORS, extrasOf, linearShapes, vectorLengths } from './packed.js';
import { adjacentPairRow, type Encoding, type SourceMatrix, type SourceModel } from './source.js';
import type { ByteSource, ModelConfig, RopeScaling } from './types.js';

/** Of the model, for people. */
const LONGEST_NAME = 200;

const encodings: Record<string, Encoding> = {
  F32: 'f32', F16: 'f16', BF16: 'bf16', Q4_0: 'q4_0', Q4_1: 'q4_1', Q5_0: 'q5_0', Q5_1: 'q5_1', Q8_0: 'q8_0',
  Q2_K: 'q2_k', Q3_K: 'q3_k', Q4_K: 'q4_k', Q5_K: 'q5_k', Q6_K: 'q6_k', TQ1_0: 'tq1_0', TQ2_0: 'tq2_0', I2_S: 'i2_s',
};

interface Architecture {
  /** Vectors that all layers have beyond Llama's. Biases are taken where they are. */
  extras: string[];
  activation: ModelConfig['activation'];
  /** llama.cpp's converter interleaves the halves of each head of q and k. */
  interleaved?: true;
}
const subNorms = ['attn.subNorm', 'ffn.subNorm'];
const architectures: Record<string, Architecture> = {
  llama: { extras: [], activation: 'silu', interleaved: true }, // and Mistral, SmolLM, Falcon 3
  qwen2: { extras: ['attn.q.bias', 'attn.k.bias', 'attn.v.bias'], activation: 'silu' },
  qwen3: { extras: ['attn.qNorm', 'attn.kNorm'], activation: 'silu' },
  bitnet: { extras: subNorms, activation: 'silu' },
  'bitnet-25': { extras: subNorms, activation: 'relu2' },
  'bitnet-b1.58': { extras: subNorms, activation: 'relu2' },
};

const layerNames: Record<string, string> = {
  'attn.q': 'attn_q', 'attn.k': 'attn_k', 'attn.v': 'attn_v', 'attn.o': 'attn_output', 'ffn.gate': 'ffn_gate', 'ffn.up': 'ffn_up', 'ffn.down': 'ffn_down',
  'attn.norm': 'attn_norm', 'ffn.norm': 'ffn_norm', 'attn.qNorm': 'attn_q_norm', 'attn.kNorm': 'attn_k_norm',
  'attn.subNorm': 'attn_sub_norm', 'ffn.subNorm': 'ffn_sub_norm',
};
const topNames: Record<string, string> = { embedding: 'token_embd', norm: 'output_norm', head: 'output', [ROPE_DIVISORS]: 'rope_freqs' };

/** `layers.3.attn.q` -> `blk.3.attn_q.weight`, `layers.3.attn.q.bias` -> `blk.3.attn_q.bias` */
function ggufName(name: string): string {
  const [, layer, rest, bias] = /^(?:layers\.(\d+)\.)?(.+?)(\.bias)?$/.exec(name)!;
  return `${layer === undefined ? topNames[rest!] : `blk.${layer}.${layerNames[rest!]}`}${bias ?? '.weight'}`;
}

/** `file` is closed by the model's `close()`, or by the caller when this rejects. */
export async function importGguf(file: ByteSource): Promise<SourceModel> {
  const others: ByteSource[] = [];
  try {
    const { metadata, tensors } = await readParts(file, others);
    const architecture = metadata.string('general.architecture');
    const known = architecture !== undefined && Object.hasOwn(architectures, architecture) ? architectures[architecture] : undefined;
    if (!known) {
      throw new UnsupportedFormatError(file.name, 'general.architecture', `${shown(architecture ?? null)} is not supported`, `Known are ${Object.keys(architectures).join(', ')}.`);
    }
    checkVocabulary(metadata, tensors, file.name);
    const { tokenizerJson, chat, ...tokens } = readGgufTokenizer(metadata, file.name);
    const config = readConfig(metadata, tensors, tokens, architecture!, known, file.name);
    const files = [file, ...others], name = metadata.string('general.name')?.slice(0, LONGEST_NAME);
    return {
      config, tokenizerJson, chat, ...await collect(tensors, config, known, file.name), defaultBits: 'exact',
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

/** Before a list of tokens is read that has nothing to do with the model. */
function checkVocabulary(metadata: Metadata, tensors: Map<string, GgufTensor>, path: string): void {
  const embedding = tensors.get('token_embd.weight'), count = metadata.count('tokenizer.ggml.tokens');
  if (!embedding) throw new UnsupportedFormatError(path, 'token_embd.weight', 'there is no such tensor: a vocabulary without a model?', 'Give a file that holds the whole model.');
  if (count !== undefined && count !== embedding.dims[1]) throw new BadModelFileError(path, 'tokenizer.ggml.tokens', `${count} tokens, token_embd.weight has ${embedding.dims[1]} rows`);
}

function readConfig(metadata: Metadata, tensors: Map<string, GgufTensor>, { size, bosId, addBos, eosIds }: Tokens,
  architecture: string, { activation }: Architecture, path: string): ModelConfig {
  const refuse: Refuse = (field, problem, hint) => { throw new UnsupportedFormatError(path, field, problem, hint); };
  const number = (key: string) => metadata.number(`${architecture}.${key}`);
  const required = (key: string) => {
    const value = number(key);
    if (value === undefined) throw new BadModelFileError(path, `${architecture}.${key}`, 'is missing');
    return value;
  };
  const nHeads = required('attention.head_count'), dim = required('embedding_length'), contextLength = required('context_length');
  const headDim = number('attention.key_length') ?? dim / nHeads, window = number('attention.sliding_window') ?? 0;
  const config = checkConfig({
    architecture,
    dim,
    hiddenDim: required('feed_forward_length'),
    nLayers: required('block_count'),
    nHeads,
    nHeadsKv: number('attention.head_count_kv') ?? nHeads,
    headDim,
    vocabSize: size,
    contextLength,
    normEps: required('attention.layer_norm_rms_epsilon'),
    ropeTheta: number('rope.freq_base') ?? 10000,
    ropeScaling: readScaling(metadata, architecture, contextLength, refuse),
    slidingWindow: window === 0 || window >= contextLength ? null : window,
    activation,
    tiedHead: !tensors.has('output.weight'),
    bosId, eosIds, addBos,
  }, path);
  if (config.nLayers > tensors.size) throw new BadModelFileError(path, `${architecture}.block_count`, `${config.nLayers} layers, ${tensors.size} tensors`);

  // What the engine would compute wrongly.
  const plain: [key: string, value: number, hint: string][] = [
    ['attention.value_length', headDim, 'Use a model whose keys and values are equally long.'],
    ['rope.dimension_count', headDim, 'Use a model that rotates whole heads.'],
    ['expert_count', 0, 'Use a model without experts.'],
  ];
  for (const [key, value, hint] of plain) {
    const actual = number(key) ?? value;
    if (actual !== value) refuse(`${architecture}.${key}`, `${actual} is not supported, only ${value}`, hint);
  }
  return config;
}

type Refuse = (field: string, problem: string, hint: string) => never;

/** Llama 3's scaling comes as a tensor of divisors instead. */
function readScaling(metadata: Metadata, architecture: string, contextLength: number, refuse: Refuse): RopeScaling | null {
  const key = (name: string) => `${architecture}.rope.${name}`, number = (name: string) => metadata.number(key(name));
  const type = metadata.string(key('scaling.type')), factor = number('scaling.factor') ?? number('scale_linear') ?? 1;
  switch (type) {
    case 'none': return null;
    case undefined: case 'linear': return factor === 0 || factor === 1 ? null : { type: 'linear', factor };
    case 'yarn': {
      for (const [name, plain] of [['scaling.attn_factor', 1], ['scaling.yarn_attn_factor', 1], ['scaling.yarn_ext_factor', 1], ['scaling.yarn_log_multiplier', 0]] as const) {
        const value = number(name) ?? plain;
        if (value !== plain) refuse(key(name), `${value} is not supported, only ${plain}`, 'Use a model with the usual kind of yarn.');
      }
      return {
        type, factor, originalLength: number('scaling.original_context_length') ?? contextLength,
        low: number('scaling.yarn_beta_slow') ?? 1, high: number('scaling.yarn_beta_fast') ?? 32, truncate: true, attention: null,
      };
    }
    default: return refuse(key('scaling.type'), `${shown(type)} is not supported`, 'linear and yarn are, and the divisors of Llama 3.');
  }
}

type Tokens = Omit<ReturnType<typeof readGgufTokenizer>, 'tokenizerJson' | 'chat'>;

/** Tensors -> matrices and norms. Every tensor must find its place. */
async function collect(tensors: Map<string, GgufTensor>, config: ModelConfig, architecture: Architecture, path: string): Promise<Pick<SourceModel, 'matrices' | 'vectors'>> {
  const used = new Set<string>(), { interleaved } = architecture;
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
    const row = interleaved && /attn\.[qk]$/.test(name) ? (r: number) => adjacentPairRow(r, config.headDim) : (r: number) => r;
    const scale = encoding === 'i2_s' ? await i2sScale(file, begin + rows * length, tensorName) : 1;
    matrices.set(name, { name: tensorName, rows, cols, encoding, scale, codes: { file, length, offset: r => begin + length * row(r) } });
  }
  for (const [name, length] of vectorLengths(config, new Set([...architecture.extras, ...extrasOf(one => tensors.has(ggufName(one)))]))) {
    const tensorName = ggufName(name), { type, file, begin } = find(tensorName, [length]);
    if (type.name !== 'F32') throw new UnsupportedFormatError(file.name, tensorName, `a vector of type ${type.name}`, 'Norms and biases of type F32 are read: convert the model with current tools.');
    const values = new Float32Array((await readBytes(file, begin, 4 * length, tensorName)).buffer);
    if (name === ROPE_DIVISORS && !values.every(value => value >= 1e-3)) throw new BadModelFileError(file.name, tensorName, 'holds a value below 0.001');
    vectors.set(name, interleaved && /attn\.[qk]\.bias$/.test(name) ? values.map((_, r) => values[adjacentPairRow(r, config.headDim)]!) : values);
  }
  for (const [name, { file }] of tensors) {
    if (!used.has(name)) throw new UnsupportedFormatError(file.name, name, `a tensor that other ${config.architecture} models do not have`, 'The model would compute something else.');
  }
  return { matrices, vectors };
}

/** One scale for the matrix, behind its codes. */
async function i2sScale(file: ByteSource, offset: number, name: string): Promise<number> {
  const scale = new DataView((await readBytes(file, offset, 4, name)).buffer).getFloat32(0, true);
  if (!(scale > 0 && scale < Infinity)) throw new BadModelFileError(file.name, name, `${scale} is no scale`);
  return scale;
}

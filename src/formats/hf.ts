/**
 * Folders of Hugging Face models: config.json, tokenizer.json and safetensors, whole or in shards.
 * Llama architecture with F32, F16 or BF16 weights, and BitNet (BitNetForCausalLM, or Llama with BitNet-packed layers).
 */
import { BadModelFileError, FileAccessError, UnsupportedFormatError } from '../errors.js';
import { openFile } from '../platform/platform.js';
import { isObject, parseJson, readBytes } from './bytes.js';
import { huggingFaceChat } from './chat.js';
import { checkConfig } from './config.js';
import { elutqTensors, isElutq, type ElutqTensor } from './elutq.js';
import { openIfThere } from './files.js';
import { extrasOf, linearShapes, vectorLengths } from './packed.js';
import { readSafetensorsHeader } from './safetensors.js';
import type { Encoding, SourceMatrix, SourceModel } from './source.js';
import type { ByteSource, ChatFormat, ModelConfig, TensorInfo } from './types.js';

const JSON_LIMIT = 256 << 20;
/** A vocabulary is often padded for the sake of matrix shapes; more unused ids than this share mean another tokenizer. */
const UNUSED_SHARE = 1 / 16;
const encodings: Record<string, Encoding> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

interface Tensor extends Pick<TensorInfo, 'dtype' | 'shape'> {
  file: ByteSource;
  /** File offset. */
  begin: number;
  /** How it is read, where that is more than `dtype` says. */
  matrix?: ElutqTensor['matrix'];
}

export async function importHuggingFace(folder: string, tokenizerPath = `${folder}/tokenizer.json`): Promise<SourceModel> {
  const configPath = `${folder}/config.json`;
  const raw = parseJson(await readText(configPath), configPath, 'JSON');
  checkSupported(raw, configPath);
  const files: ByteSource[] = [];
  try {
    const elutq = await isElutq(folder), tensors: Map<string, Tensor> = elutq ? await elutqTensors(folder, raw) : await openTensors(folder, files);
    // The head of a tied model may be quantised apart.
    if (elutq) raw.tie_word_embeddings = !tensors.has('lm_head.weight');
    const tokenizerJson = await readText(tokenizerPath);
    const tokenizer = parseJson(tokenizerJson, tokenizerPath, 'JSON');
    const config = await readConfig(folder, raw, configPath, tensors, tokenizer);
    checkTokenizerSize(tokenizer, tokenizerPath, config.vocabSize);
    const weights = new Weights(tensors, config, scaleDivides(raw), folder);
    return {
      config, tokenizerJson, chat: await readChat(folder), ...await weights.collect(),
      ...(elutq && { defaultBits: 'exact' as const }),
      bytes: [...new Set([...files, ...[...tensors.values()].map(tensor => tensor.file)])].reduce((sum, file) => sum + file.size, 0),
      provenance: { format: elutq ? 'ELUTQ' : 'Hugging Face', architecture: raw.architectures?.[0] ?? raw.model_type },
      close: () => closeAll(files),
    };
  } catch (error) {
    await closeAll(files);
    throw error;
  }
}

const closeAll = async (files: ByteSource[]) => { await Promise.all(files.map(file => file.close())); };

async function readText(path: string): Promise<Uint8Array> {
  const file = await openFile(path);
  try {
    if (file.size > JSON_LIMIT) throw new BadModelFileError(path, 'size', `${file.size} bytes of JSON; at most ${JSON_LIMIT} make sense`);
    return await readBytes(file, 0, file.size, 'JSON');
  } finally {
    await file.close();
  }
}

/** Refuses what the engine would compute wrongly. */
function checkSupported(raw: Record<string, any>, path: string): void {
  const refuse = (field: string, value: unknown, hint: string): never => {
    throw new UnsupportedFormatError(path, field, `${JSON.stringify(value)} is not supported`, hint);
  };
  if (!['llama', 'bitnet'].includes(raw.model_type)) refuse('model_type', raw.model_type, 'Llama and BitNet models are.');
  for (const field of ['attention_bias', 'mlp_bias']) if (raw[field]) refuse(field, raw[field], 'Use a model whose linear layers have no biases.');
  for (const field of ['rope_scaling', 'rope_parameters']) {
    const type = isObject(raw[field]) ? raw[field].rope_type ?? raw[field].type ?? 'default' : 'default';
    if (type !== 'default') refuse(`${field}.rope_type`, type, 'Use a model with plain rotary embeddings.');
  }
  if ((raw.partial_rotary_factor ?? 1) !== 1) refuse('partial_rotary_factor', raw.partial_rotary_factor, 'Use a model that rotates whole heads.');
  if (raw.sliding_window && raw.use_sliding_window !== false) refuse('sliding_window', raw.sliding_window, 'Use a model with full attention.');
  if (!['silu', 'relu2'].includes(raw.hidden_act)) refuse('hidden_act', raw.hidden_act, 'silu and relu2 are.');
  const method = raw.quantization_config?.quant_method;
  if (raw.quantization_config && method !== 'bitnet') refuse('quantization_config.quant_method', method, 'Use the unquantised model, or a BitNet one.');
}

/** BitNet's scales multiply in checkpoints of "autobitlinear", divide in the older "bitlinear" ones. */
const scaleDivides = (raw: Record<string, any>) => (raw.quantization_config?.linear_class ?? 'bitlinear') !== 'autobitlinear';

async function openTensors(folder: string, files: ByteSource[]): Promise<Map<string, Tensor>> {
  const tensors = new Map<string, Tensor>();
  const add = async (file: ByteSource) => {
    files.push(file);
    const header = await readSafetensorsHeader(file);
    for (const [name, tensor] of header.tensors) {
      if (tensors.has(name)) throw new BadModelFileError(file.name, name, `is in ${tensors.get(name)!.file.name} too`);
      tensors.set(name, { dtype: tensor.dtype, shape: tensor.shape, file, begin: header.dataOffset + tensor.begin });
    }
  };
  const whole = await openIfThere(`${folder}/model.safetensors`);
  if (whole) {
    await add(whole);
    return tensors;
  }
  const indexPath = `${folder}/model.safetensors.index.json`;
  const index = await openIfThere(indexPath);
  if (!index) throw new FileAccessError(folder, 'neither model.safetensors nor model.safetensors.index.json is there', 'Download the whole folder; other weight formats are not read.');
  await index.close();
  const { weight_map: map } = parseJson(await readText(indexPath), indexPath, 'JSON');
  const shards = isObject(map) ? new Set(Object.values(map)) : new Set();
  if (shards.size === 0 || shards.size > 1000) throw new BadModelFileError(indexPath, 'weight_map', `${shards.size} shards`);
  for (const shard of shards) {
    if (typeof shard !== 'string' || !/^[\w.-]+\.safetensors$/.test(shard)) throw new BadModelFileError(indexPath, 'weight_map', `${JSON.stringify(shard)} is no file name of a shard`);
    await add(await openFile(`${folder}/${shard}`));
  }
  for (const [name, shard] of Object.entries(map)) {
    if (tensors.get(name)?.file.name !== `${folder}/${shard}`) throw new BadModelFileError(indexPath, `weight_map.${name}`, `is not in ${shard}`);
  }
  return tensors;
}

async function readConfig(folder: string, raw: Record<string, any>, path: string, tensors: Map<string, Tensor>, tokenizer: Record<string, any>): Promise<ModelConfig> {
  const generationPath = `${folder}/generation_config.json`, tokenizerConfigPath = `${folder}/tokenizer_config.json`;
  const generation = await readOptional(generationPath), tokenizerConfig = await readOptional(tokenizerConfigPath);
  const idList = (value: unknown): unknown[] => Array.isArray(value) ? value : value === null || value === undefined ? [] : [value];
  const bosId = raw.bos_token_id ?? null;
  return checkConfig({
    architecture: raw.model_type,
    dim: raw.hidden_size,
    hiddenDim: raw.intermediate_size,
    nLayers: raw.num_hidden_layers,
    nHeads: raw.num_attention_heads,
    nHeadsKv: raw.num_key_value_heads ?? raw.num_attention_heads,
    headDim: raw.head_dim ?? raw.hidden_size / raw.num_attention_heads,
    vocabSize: raw.vocab_size,
    contextLength: raw.max_position_embeddings,
    normEps: raw.rms_norm_eps,
    ropeTheta: raw.rope_theta ?? raw.rope_parameters?.rope_theta ?? 10000,
    activation: raw.hidden_act,
    tiedHead: raw.tie_word_embeddings ?? !tensors.has('lm_head.weight'),
    bosId,
    eosIds: [...new Set([...idList(raw.eos_token_id), ...idList(generation.eos_token_id)])],
    addBos: bosId !== null && (tokenizerConfig.add_bos_token ?? templateAddsBos(tokenizer.post_processor, bosId)),
  }, path);
}

async function readOptional(path: string): Promise<Record<string, any>> {
  const file = await openIfThere(path);
  if (!file) return {};
  await file.close();
  return parseJson(await readText(path), path, 'JSON');
}

async function readChat(folder: string): Promise<ChatFormat | undefined> {
  const config = await readOptional(`${folder}/tokenizer_config.json`), path = `${folder}/chat_template.jinja`;
  const file = await openIfThere(path);
  await file?.close();
  const template: unknown = file ? new TextDecoder().decode(await readText(path)) : (await readOptional(`${folder}/chat_template.json`)).chat_template;
  return huggingFaceChat(config, typeof template === 'string' ? template : undefined, folder);
}

/** Whether a tokenizer's post-processor puts BOS in front of a text. */
function templateAddsBos(processor: any, bosId: number): boolean {
  if (processor?.type === 'Sequence') return Array.isArray(processor.processors) && processor.processors.some((one: any) => templateAddsBos(one, bosId));
  const first = processor?.type === 'TemplateProcessing' ? processor.single?.[0]?.SpecialToken?.id : undefined;
  return first !== undefined && processor.special_tokens?.[first]?.ids?.[0] === bosId;
}

function checkTokenizerSize(tokenizer: Record<string, any>, path: string, vocabSize: number): void {
  const vocab = tokenizer.model?.vocab;
  if (typeof vocab !== 'object' || vocab === null) throw new BadModelFileError(path, 'model.vocab', 'is missing');
  let size = Array.isArray(vocab) ? vocab.length : 0;
  const ids = Array.isArray(vocab) ? [] : Object.values(vocab);
  for (const token of Array.isArray(tokenizer.added_tokens) ? tokenizer.added_tokens : []) ids.push(token?.id);
  for (const id of ids) {
    if (!Number.isInteger(id)) throw new BadModelFileError(path, 'model.vocab', `${JSON.stringify(id)} is no token id`);
    size = Math.max(size, id as number + 1);
  }
  if (size > vocabSize || vocabSize - size > vocabSize * UNUSED_SHARE) {
    throw new BadModelFileError(path, 'model.vocab', `${size} tokens, the model has ${vocabSize}`, 'Give the tokenizer that belongs to this model with `--tokenizer FILE`.');
  }
}

const modules: Record<string, string> = {
  embedding: 'embed_tokens', norm: 'norm',
  'attn.q': 'self_attn.q_proj', 'attn.k': 'self_attn.k_proj', 'attn.v': 'self_attn.v_proj', 'attn.o': 'self_attn.o_proj',
  'ffn.gate': 'mlp.gate_proj', 'ffn.up': 'mlp.up_proj', 'ffn.down': 'mlp.down_proj',
  'attn.norm': 'input_layernorm', 'ffn.norm': 'post_attention_layernorm', 'attn.qNorm': 'self_attn.q_norm', 'attn.kNorm': 'self_attn.k_norm',
  'attn.subNorm': 'self_attn.attn_sub_norm', 'ffn.subNorm': 'mlp.ffn_sub_norm',
};

/** `layers.3.attn.q` -> `model.layers.3.self_attn.q_proj` */
function moduleName(name: string): string {
  if (name === 'head') return 'lm_head';
  const [, layer = '', rest] = /^(layers\.\d+\.)?(.+)$/.exec(name)!;
  return `model.${layer}${modules[rest!]}`;
}

/** `layers.3.attn.q.bias` -> `model.layers.3.self_attn.q_proj.bias`, `norm` -> `model.norm.weight` */
const vectorName = (name: string) => name.endsWith('.bias') ? `${moduleName(name.slice(0, -5))}.bias` : `${moduleName(name)}.weight`;

/** Tensors -> matrices and norms. Every tensor must find its place. */
class Weights {
  private readonly used = new Set<string>();
  constructor(private readonly tensors: Map<string, Tensor>, private readonly config: ModelConfig, private readonly divides: boolean, private readonly folder: string) {}

  async collect(): Promise<Pick<SourceModel, 'matrices' | 'vectors'>> {
    const { config, tensors } = this;
    if (config.nLayers > tensors.size) throw new BadModelFileError(this.folder, 'num_hidden_layers', `${config.nLayers} layers, ${tensors.size} tensors`);
    const matrices = new Map<string, SourceMatrix>(), vectors = new Map<string, Float32Array>();
    for (const { name, rows, cols } of linearShapes(config)) matrices.set(name, await this.matrix(moduleName(name), rows, cols));
    const extras = extrasOf(name => tensors.has(vectorName(name)));
    for (const [name, length] of vectorLengths(config, extras)) vectors.set(name, await this.values(vectorName(name), [length]));
    for (const [name, { file }] of tensors) {
      const harmless = name.endsWith('.rotary_emb.inv_freq') || (name === 'lm_head.weight' && config.tiedHead);
      if (!this.used.has(name) && !harmless) {
        throw new UnsupportedFormatError(file.name, name, 'a tensor that this architecture does not have', 'The model differs from plain Llama and BitNet and would compute something else.');
      }
    }
    return { matrices, vectors };
  }

  private async matrix(name: string, rows: number, cols: number): Promise<SourceMatrix> {
    const weight = `${name}.weight`;
    const packed = this.tensors.get(weight)?.dtype === 'U8';
    const { file, begin, dtype, matrix } = this.find(weight, packed ? [Math.ceil(rows / 4), cols] : [rows, cols]);
    if (matrix) return { name: weight, rows, cols, ...matrix };
    if (packed) {
      // Byte [i][k] holds four rows: i, i + n, i + 2n, i + 3n, the first in its lowest bits; n = ceil(rows / 4).
      const n = Math.ceil(rows / 4);
      const [stored] = await this.values(`${name}.weight_scale`, null);
      const scale = this.divides ? Math.fround(1 / stored!) : stored!;
      if (!(scale > 0 && Number.isFinite(scale))) throw new BadModelFileError(file.name, `${name}.weight_scale`, `${stored} is no scale`);
      return {
        name: weight, rows, cols, encoding: 'ternary2', scale,
        codes: { file, length: cols, offset: r => begin + cols * (r % n) },
        phase: r => 2 * Math.floor(r / n),
      };
    }
    const encoding = encodings[dtype];
    if (!encoding) throw new UnsupportedFormatError(file.name, weight, `weights of type ${dtype}`, 'F32, F16, BF16 and BitNet\'s packed U8 are read.');
    const length = cols * (dtype === 'F32' ? 4 : 2);
    return { name: weight, rows, cols, encoding, codes: { file, length, offset: r => begin + length * r } };
  }

  /** A small tensor as f32. Shape null: one value, however it is written. */
  private async values(name: string, shape: number[] | null): Promise<Float32Array> {
    const { file, begin, dtype, shape: actual } = this.find(name, shape);
    const count = actual.reduce((a, b) => a * b, 1);
    if (shape === null && count !== 1) throw new BadModelFileError(file.name, name, `[${actual}] instead of one value`);
    if (!encodings[dtype]) throw new UnsupportedFormatError(file.name, name, `values of type ${dtype}`, 'F32, F16 and BF16 are read.');
    const bytes = await readBytes(file, begin, count * (dtype === 'F32' ? 4 : 2), name);
    if (dtype === 'F32') return new Float32Array(bytes.buffer);
    const halves = new Uint16Array(bytes.buffer);
    if (dtype === 'BF16') return new Float32Array(Uint32Array.from(halves, half => half << 16).buffer);
    return Float32Array.from(halves, halfToNumber);
  }

  private find(name: string, shape: number[] | null): Tensor {
    const tensor = this.tensors.get(name);
    if (!tensor) throw new BadModelFileError(this.folder, name, 'is missing', 'Download all files of the model again.');
    if (shape && tensor.shape.join() !== shape.join()) throw new BadModelFileError(tensor.file.name, name, `[${tensor.shape}], config.json implies [${shape}]`);
    this.used.add(name);
    return tensor;
  }
}

function halfToNumber(half: number): number {
  const exponent = (half >> 10) & 31, fraction = half & 1023;
  const magnitude = exponent === 31 ? (fraction ? NaN : Infinity) : exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

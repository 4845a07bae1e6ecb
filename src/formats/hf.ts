/**
 * Folders of Hugging Face models: config.json, tokenizer.json and safetensors, whole or in shards. Weights are F32, F16 or
 * BF16, trits as BitNet checkpoints pack them, or codes of GPTQ; for the architectures see hf-config.ts.
 */
import { BadModelFileError, FileAccessError, UnsupportedFormatError } from '../errors.js';
import { parseJson, readBytes, shown } from './bytes.js';
import { huggingFaceChat } from './chat.js';
import { checkConfig } from './config.js';
import { elutqTensors, isElutq, type ElutqTensor } from './elutq.js';
import { openFile, openIfThere } from './files.js';
import { GptqCache, gptqMatrix, groupCount, halfToNumber } from './gptq.js';
import { readHuggingFaceConfig, type Quantisation } from './hf-config.js';
import { extrasOf, linearShapes, vectorLengths, type Extras } from './packed.js';
import { readSafetensorsHeader } from './safetensors.js';
import { INDEX_NAME, readShardIndex } from './shards.js';
import type { Encoding, SourceMatrix, SourceModel } from './source.js';
import type { Vocabulary } from '../tokenizer/vocabulary.js';
import { readTokenizerJson } from './tokenizer-json.js';
import type { ByteSource, ChatFormat, ModelConfig, TensorInfo } from './types.js';

/** The largest tokenizers take 33 MB. */
const TOKENIZER_LIMIT = 64 << 20;
/** Of other files in JSON. */
const JSON_LIMIT = 4 << 20;
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
  const files: ByteSource[] = [];
  try {
    const elutq = await isElutq(folder), tensors: Map<string, Tensor> = elutq ? await elutqTensors(folder, raw) : await openTensors(folder, files);
    // The head of a tied model may be quantised apart.
    if (elutq) raw.tie_word_embeddings = !tensors.has('lm_head.weight');
    const tokenizerJson = await readText(tokenizerPath, TOKENIZER_LIMIT);
    const { json: tokenizer, vocabulary } = readTokenizerJson(tokenizerJson, tokenizerPath, 'JSON');
    const { extras, quantisation, config: fromConfig } = readHuggingFaceConfig(raw, await readOptional(`${folder}/quantize_config.json`), configPath);
    const config = checkConfig({ ...fromConfig, ...await voiceOf(folder, raw, tensors, tokenizer) }, configPath);
    checkTokenizerSize(tokenizer, vocabulary, tokenizerPath, config.vocabSize);
    const weights = new Weights(tensors, config, extras, quantisation, folder);
    return {
      config, tokenizerJson, chat: await readChat(folder), ...await weights.collect(),
      ...((quantisation || elutq) && { defaultBits: quantisation?.method === 'bitnet' ? 'ternary' as const : 'exact' as const }),
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

async function readText(path: string, limit = JSON_LIMIT): Promise<Uint8Array> {
  const file = await openFile(path);
  try {
    if (file.size > limit) throw new BadModelFileError(path, 'size', `${file.size} bytes of JSON; at most ${limit} make sense`);
    return await readBytes(file, 0, file.size, 'JSON');
  } finally {
    await file.close();
  }
}

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
  const index = await openIfThere(`${folder}/${INDEX_NAME}`);
  if (!index) throw new FileAccessError(folder, `neither model.safetensors nor ${INDEX_NAME} is there`, 'Download the whole folder; other weight formats are not read.');
  let map;
  try {
    map = await readShardIndex(index);
  } finally {
    await index.close();
  }
  for (const shard of new Set(map.values())) await add(await openFile(`${folder}/${shard}`));
  for (const [name, shard] of map) {
    if (tensors.get(name)?.file.name !== `${folder}/${shard}`) throw new BadModelFileError(index.name, `weight_map.${name}`, `is not in ${shard}`);
  }
  return tensors;
}

/** Where a model begins and stops speaking, and what it speaks with. */
async function voiceOf(folder: string, raw: Record<string, any>, tensors: Map<string, Tensor>, tokenizer: Record<string, any>) {
  const generation = await readOptional(`${folder}/generation_config.json`), tokenizerConfig = await readOptional(`${folder}/tokenizer_config.json`);
  const idList = (value: unknown): unknown[] => Array.isArray(value) ? value : value === null || value === undefined ? [] : [value];
  const bosId = raw.bos_token_id ?? null;
  return {
    tiedHead: raw.tie_word_embeddings ?? !tensors.has('lm_head.weight'),
    bosId,
    eosIds: [...new Set([...idList(raw.eos_token_id), ...idList(generation?.eos_token_id)])],
    addBos: bosId !== null && (tokenizerConfig?.add_bos_token ?? templateAddsBos(tokenizer.post_processor, bosId)),
  };
}

async function readOptional(path: string): Promise<Record<string, any> | undefined> {
  const file = await openIfThere(path);
  if (!file) return undefined;
  await file.close();
  return parseJson(await readText(path), path, 'JSON');
}

async function readChat(folder: string): Promise<ChatFormat | undefined> {
  const config = await readOptional(`${folder}/tokenizer_config.json`) ?? {}, path = `${folder}/chat_template.jinja`;
  const file = await openIfThere(path);
  await file?.close();
  const template: unknown = file ? new TextDecoder().decode(await readText(path)) : (await readOptional(`${folder}/chat_template.json`))?.chat_template;
  return huggingFaceChat(config, typeof template === 'string' ? template : undefined, folder);
}

/** Whether a tokenizer's post-processor puts BOS in front of a text. */
function templateAddsBos(processor: any, bosId: number): boolean {
  if (processor?.type === 'Sequence') return Array.isArray(processor.processors) && processor.processors.some((one: any) => templateAddsBos(one, bosId));
  const first = processor?.type === 'TemplateProcessing' ? processor.single?.[0]?.SpecialToken?.id : undefined;
  return first !== undefined && processor.special_tokens?.[first]?.ids?.[0] === bosId;
}

function checkTokenizerSize(tokenizer: Record<string, any>, { count }: Vocabulary, path: string, vocabSize: number): void {
  let size = count;
  for (const token of Array.isArray(tokenizer.added_tokens) ? tokenizer.added_tokens : []) {
    if (!Number.isInteger(token?.id)) throw new BadModelFileError(path, 'model.vocab', `${shown(token?.id)} is no token id`);
    size = Math.max(size, token.id + 1);
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
  private readonly gptqCache = new GptqCache();
  constructor(private readonly tensors: Map<string, Tensor>, private readonly config: ModelConfig, private readonly extras: Extras,
    private readonly quantisation: Quantisation | null, private readonly folder: string) {}

  async collect(): Promise<Pick<SourceModel, 'matrices' | 'vectors'>> {
    const { config, tensors } = this;
    if (config.nLayers > tensors.size) throw new BadModelFileError(this.folder, 'num_hidden_layers', `${config.nLayers} layers, ${tensors.size} tensors`);
    const matrices = new Map<string, SourceMatrix>(), vectors = new Map<string, Float32Array>();
    for (const { name, rows, cols } of linearShapes(config)) matrices.set(name, await this.matrix(moduleName(name), rows, cols));
    // Those of GPTQ and ELUTQ apply whatever bias is stored.
    const extras = this.quantisation?.method === 'gptq' || this.tensors.get(`${moduleName('layers.0.attn.q')}.weight`)?.matrix ? new Set([...this.extras, ...extrasOf(name => name.endsWith('.bias') && tensors.has(vectorName(name)))]) : this.extras;
    for (const [name, length] of vectorLengths(config, extras)) vectors.set(name, await this.values(vectorName(name), [length]));
    for (const [name, { file }] of tensors) {
      const harmless = name.endsWith('.rotary_emb.inv_freq') || (name === 'lm_head.weight' && config.tiedHead);
      if (!this.used.has(name) && !harmless) {
        throw new UnsupportedFormatError(file.name, name, 'a tensor that this architecture does not have', `The model differs from other ${config.architecture} models and would compute something else.`);
      }
    }
    return { matrices, vectors };
  }

  private async matrix(name: string, rows: number, cols: number): Promise<SourceMatrix> {
    const weight = `${name}.weight`;
    if (this.quantisation?.method === 'gptq' && this.tensors.has(`${name}.qweight`)) return this.gptq(name, rows, cols, this.quantisation);
    const packed = this.tensors.get(weight)?.dtype === 'U8';
    const { file, begin, dtype, matrix } = this.find(weight, packed ? [Math.ceil(rows / 4), cols] : [rows, cols]);
    if (matrix) return { name: weight, rows, cols, ...matrix };
    if (packed) {
      if (this.quantisation?.method !== 'bitnet') throw new UnsupportedFormatError(file.name, weight, 'packed weights without a quantization_config that explains them', 'Download config.json of this model again.');
      // Byte [i][k] holds four rows: i, i + n, i + 2n, i + 3n, the first in its lowest bits; n = ceil(rows / 4).
      const n = Math.ceil(rows / 4);
      const [stored] = await this.values(`${name}.weight_scale`, null);
      const scale = this.quantisation.divides ? Math.fround(1 / stored!) : stored!;
      if (!(scale > 0 && Number.isFinite(scale))) throw new BadModelFileError(file.name, `${name}.weight_scale`, `${stored} is no scale`);
      return {
        name: weight, rows, cols, encoding: 'ternary2', scale, stored: { type: 'ternary2', bytes: n * cols },
        codes: { file, length: cols, offset: r => begin + cols * (r % n) },
        phase: r => 2 * Math.floor(r / n),
      };
    }
    const encoding = encodings[dtype];
    if (!encoding) throw new UnsupportedFormatError(file.name, weight, `weights of type ${dtype}`, 'F32, F16, BF16 and BitNet\'s packed U8 are read.');
    const length = cols * (dtype === 'F32' ? 4 : 2);
    return { name: weight, rows, cols, encoding, codes: { file, length, offset: r => begin + length * r } };
  }

  private async gptq(name: string, rows: number, cols: number, gptq: Quantisation & { method: 'gptq' }): Promise<SourceMatrix> {
    const { bits } = gptq, groups = groupCount(cols, gptq);
    if (cols * bits % 32 !== 0 || rows * bits % 32 !== 0) throw new BadModelFileError(this.folder, name, `[${rows}, ${cols}] of ${bits} bits do not fill words`);
    const place = (part: string, dtype: string, shape: number[]) => {
      const tensor = this.find(`${name}.${part}`, shape);
      if (tensor.dtype !== dtype) throw new UnsupportedFormatError(tensor.file.name, `${name}.${part}`, `of type ${tensor.dtype}`, `GPTQ has ${dtype} there.`);
      return tensor;
    };
    return gptqMatrix(name, rows, cols, gptq, {
      qweight: place('qweight', 'I32', [cols * bits / 32, rows]), qzeros: place('qzeros', 'I32', [groups, rows * bits / 32]),
      scales: place('scales', 'F16', [groups, rows]), groupOf: this.tensors.has(`${name}.g_idx`) ? place('g_idx', 'I32', [cols]) : null,
    }, this.gptqCache);
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

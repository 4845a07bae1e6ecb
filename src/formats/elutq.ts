/**
 * Folders that ELUTQ exports: config.json and the tokenizer as Hugging Face has them, a file of raw numbers for everything
 * else. Embedding, head and norms are halves; a linear layer has a folder with bit planes, scales and zeros.
 *
 *   embed_tokens.bin, lm_head.bin or shared_embed_lm_head.bin   [vocabulary][dim]
 *   final_rmsnorm_weight.bin, L/input_layernorm_weight.bin, L/post_attention_layernorm_weight.bin   [dim]
 *   L/self_attn.q_proj/ …, lm_head/lm_head/   w_quant.bin [planes][rows][cols / 8], w_scale.bin [planes][rows][groups],
 *                                             w_zero.bin [rows][groups], bias.bin [rows], weight_config.json
 *
 * Exports with reordered columns (`actorder`) cannot be told from others, as they leave the order out: they compute nonsense
 * everywhere.
 */
import { BadModelFileError, UnsupportedFormatError } from '../errors.js';
import { parseJson, readBytes, shown } from './bytes.js';
import { openFile, openIfThere } from './files.js';
import type { RowBytes, SourceMatrix } from './source.js';
import type { ByteSource } from './types.js';

/** A tensor by its Hugging Face name. */
export interface ElutqTensor {
  dtype: 'F16' | 'HLQ';
  shape: number[];
  file: ByteSource;
  begin: number;
  /** HLQ: how its matrix is read. */
  matrix?: Pick<SourceMatrix, 'encoding' | 'codes' | 'scales' | 'param'> & Pick<Partial<SourceMatrix>, 'exact'>;
}

const LAYERS = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj', 'mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj'];
const CONFIG_LIMIT = 1 << 16;
const MAX_LAYERS = 1000;

export async function isElutq(folder: string): Promise<boolean> {
  const file = await openIfThere(`${folder}/0/${LAYERS[0]}/weight_config.json`);
  await file?.close();
  return file !== undefined;
}

/** A model has hundreds of files: each is open while it is read, and no longer. */
async function readLater(path: string): Promise<ByteSource> {
  const use = async <T>(action: (file: ByteSource) => Promise<T>): Promise<T> => {
    const file = await openFile(path);
    try {
      return await action(file);
    } finally {
      await file.close();
    }
  };
  const size = await use(async file => file.size);
  return { name: path, size, read: (target, offset) => use(file => file.read(target, offset)), async close() {} };
}

/** All tensors of a folder. `raw`: its config.json. */
export async function elutqTensors(folder: string, raw: Record<string, any>): Promise<Map<string, ElutqTensor>> {
  const tensors = new Map<string, ElutqTensor>();
  const there = async (path: string) => { const file = await openIfThere(`${folder}/${path}`); await file?.close(); return file !== undefined; };
  const { hidden_size: dim, num_hidden_layers: nLayers } = raw;
  for (const [field, value, most] of [['hidden_size', dim, 2 ** 24], ['num_hidden_layers', nLayers, MAX_LAYERS]] as const) {
    if (!Number.isInteger(value) || value < 1 || value > most) throw new BadModelFileError(`${folder}/config.json`, field, `${shown(value)} is not 1 to ${most}`);
  }
  const halves = async (name: string, path: string, cols?: number) => {
    const file = await readLater(`${folder}/${path}`), count = file.size / 2;
    if (!Number.isInteger(count / (cols ?? 1))) throw new BadModelFileError(file.name, 'size', `${file.size} bytes are no rows of ${cols ?? 1} halves`);
    tensors.set(name, { dtype: 'F16', shape: cols === undefined ? [count] : [count / cols, cols], file, begin: 0 });
  };
  const linear = async (name: string, path: string) => {
    const { hasBias, tensor } = await readLinear(`${folder}/${path}`);
    tensors.set(`${name}.weight`, tensor);
    if (hasBias) await halves(`${name}.bias`, `${path}/bias.bin`);
  };

  const shared = await there('shared_embed_lm_head.bin');
  await halves('model.embed_tokens.weight', shared ? 'shared_embed_lm_head.bin' : 'embed_tokens.bin', dim);
  if (await there('lm_head/lm_head/weight_config.json')) await linear('lm_head', 'lm_head/lm_head');
  else if (!shared) await halves('lm_head.weight', 'lm_head.bin', dim);
  await halves('model.norm.weight', 'final_rmsnorm_weight.bin');
  for (let i = 0; i < nLayers; i++) {
    if (await there(`${i}/rmsnorm_bias.bin`)) throw new UnsupportedFormatError(`${folder}/${i}/rmsnorm_bias.bin`, 'norm', 'norms with biases', 'Use a model of the Llama family.');
    for (const norm of ['input_layernorm', 'post_attention_layernorm']) await halves(`model.layers.${i}.${norm}.weight`, `${i}/${norm}_weight.bin`);
    for (const layer of LAYERS) await linear(`model.layers.${i}.${layer}`, `${i}/${layer}`);
  }
  return tensors;
}

async function readLinear(folder: string): Promise<{ hasBias: boolean; tensor: ElutqTensor }> {
  const path = `${folder}/weight_config.json`, fail = (field: string, problem: string): never => { throw new BadModelFileError(path, field, problem); };
  const file = await readLater(path);
  if (file.size > CONFIG_LIMIT) fail('size', `${file.size} bytes; at most ${CONFIG_LIMIT} make sense`);
  const config = parseJson(await readBytes(file, 0, file.size, 'JSON'), path, 'JSON');
  const whole = (field: string, most: number): number => {
    const value: unknown = config[field];
    return Number.isInteger(value) && value as number >= 1 && value as number <= most ? value as number : fail(field, `${shown(value)} is not 1 to ${most}`);
  };
  const planes = whole('base_bit', 8), cols = whole('in_channel', 2 ** 24), rows = whole('out_channel', 2 ** 24);
  if (config.use_sparse) throw new UnsupportedFormatError(path, 'use_sparse', 'sparse planes', 'Export the model without them.');
  if (cols % 8 !== 0) fail('in_channel', `${cols} is no multiple of 8`);

  const [codes, scales, zeros] = await Promise.all(['w_quant', 'w_scale', 'w_zero'].map(name => readLater(`${folder}/${name}.bin`)));
  // The exporter leaves the group size out: it follows from the number of zeros.
  const groups = zeros!.size / (2 * rows), groupSize = cols / groups;
  if (!Number.isInteger(groups) || !Number.isInteger(groupSize)) throw new BadModelFileError(zeros!.name, 'size', `${zeros!.size} bytes are no zeros for groups of ${rows} rows of ${cols}`);
  if (Number.isInteger(config.groupsize) && config.groupsize > 0 && config.groupsize !== groupSize) fail('groupsize', `${config.groupsize}, but w_zero.bin implies ${groupSize}`);
  for (const [one, bytes] of [[codes!, planes * rows * cols / 8], [scales!, 2 * planes * rows * groups]] as const) {
    if (one.size !== bytes) throw new BadModelFileError(one.name, 'size', `${one.size} bytes, weight_config.json implies ${bytes}`);
  }
  /** A row is in as many places as there are planes. */
  const inPlanes = (source: ByteSource, length: number, last?: RowBytes): RowBytes =>
    Array.from({ length: planes }, (_, p) => planes - 1 - p).reduce<RowBytes | undefined>((then, p) =>
      ({ file: source, length, offset: row => (p * rows + row) * length, ...(then && { then }) }), last)!;
  const kernel = planes <= 4 && [32, 64, 128].includes(groupSize);
  return {
    hasBias: Boolean(config.has_bias),
    tensor: {
      dtype: 'HLQ', shape: [rows, cols], file: codes!, begin: 0,
      matrix: {
        encoding: 'elutq', param: planes + 16 * groupSize, codes: inPlanes(codes!, cols / 8),
        scales: inPlanes(scales!, 2 * groups, { file: zeros!, length: 2 * groups, offset: row => 2 * groups * row }),
        ...(kernel && { exact: { layout: 'planes', planes, groupSize, coding: 'f16' } }),
      },
    },
  };
}

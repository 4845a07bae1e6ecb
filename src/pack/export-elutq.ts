/** A packed model -> a folder as ELUTQ exports it (src/formats/elutq.ts reads it back, bit for bit). */
import { BadArgumentError, FileAccessError, UnsupportedFormatError } from '../errors.js';
import { readBytes } from '../formats/bytes.js';
import { extrasOf, linearShapes, partBorders, readPackedHeader, tileBytes } from '../formats/packed.js';
import type { ByteSource, LinearInfo, ModelConfig } from '../formats/types.js';
import { TILE_ROWS } from '../generated/layout.js';
import { Packers } from './packers.js';

/** Where a folder goes. Exactly one of `finish` and `abort` ends it; after `abort` nothing is left behind. */
export interface FolderSink {
  /** `path`: relative, with slashes. */
  write(path: string, bytes: Uint8Array): Promise<void>;
  finish(): Promise<void>;
  abort(): Promise<void>;
}

export interface ExportStats {
  bytesOut: number;
  /** Values of embedding, head and norms that halves do not hold, and that were rounded. */
  rounded: number;
}

export interface ExportOptions {
  /** Called with the linear layers done and those to do. */
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

const folders: Record<string, string> = {
  'attn.q': 'self_attn.q_proj', 'attn.k': 'self_attn.k_proj', 'attn.v': 'self_attn.v_proj', 'attn.o': 'self_attn.o_proj',
  'ffn.gate': 'mlp.gate_proj', 'ffn.up': 'mlp.up_proj', 'ffn.down': 'mlp.down_proj',
};
const norms = { 'attn.norm': 'input_layernorm_weight.bin', 'ffn.norm': 'post_attention_layernorm_weight.bin' };

/** Writes the model into `sink`. When it rejects, the sink has been aborted. Does not close the source. */
export async function exportElutq(source: ByteSource, options: ExportOptions, sink: FolderSink): Promise<ExportStats> {
  try {
    const stats = await write(source, options, sink);
    await sink.finish();
    return stats;
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

async function write(source: ByteSource, { onProgress, signal }: ExportOptions, sink: FolderSink): Promise<ExportStats> {
  const header = await readPackedHeader(source), { config, linears, tensors, dataOffset } = header;
  checkExportable(source.name, config, linears, [...extrasOf(name => name in tensors)]);
  const packers = await Packers.create();
  const stats: ExportStats = { bytesOut: 0, rounded: 0 };
  const tensor = (name: string, at = 0, length = tensors[name]!.end - tensors[name]!.begin - at) => readBytes(source, dataOffset + tensors[name]!.begin + at, length, name);
  const put = async (path: string, bytes: Uint8Array) => {
    stats.bytesOut += bytes.length;
    await sink.write(path, bytes);
  };
  const json = (path: string, value: object) => put(path, new TextEncoder().encode(JSON.stringify(value, null, 2)));
  const halves = (values: Float32Array) => {
    const { halves, changed } = packers.halves(values);
    stats.rounded += changed;
    return new Uint8Array(halves.buffer);
  };
  const vector = async (name: string, path: string, length: number) => put(path, halves(new Float32Array((await tensor(name)).buffer).subarray(0, length)));

  /** The tiles of all parts, 16 rows after 16 rows. */
  async function* tilesOf(name: string): AsyncGenerator<{ first: number; tiles: Uint8Array[]; rowScale: Uint8Array }> {
    const { rows, parts, rowScale } = linears[name]!;
    for (let first = 0; first < rows; first += TILE_ROWS) {
      signal?.throwIfAborted();
      const tiles = await Promise.all(parts.map(part => {
        const bytes = tileBytes(part, part.colEnd - part.colBegin);
        return tensor(part.tensor, first / TILE_ROWS * bytes, bytes);
      }));
      yield { first, tiles, rowScale: await tensor(rowScale, 4 * first, 4 * TILE_ROWS) };
    }
  }

  /** Embedding or head as halves [rows][cols]. */
  const rounded = async (name: string, path: string) => {
    const { rows, cols, parts } = linears[name]!, out = new Uint8Array(2 * rows * cols);
    for await (const { first, tiles, rowScale } of tilesOf(name)) {
      const tile = packers.unpackTile(parts[0]!, tiles[0]!, rowScale), count = Math.min(TILE_ROWS, rows - first), values = new Float32Array(count * cols);
      for (let r = 0; r < count; r++) for (let k = 0; k < cols; k++) values[r * cols + k] = tile[k * TILE_ROWS + r]!;
      out.set(halves(values), 2 * first * cols);
    }
    await put(path, out);
  };

  const planes = async (name: string, folder: string, segmented: boolean) => {
    const { rows, cols, parts, bias } = linears[name]!, format = parts[0]!, P = format.planes, groups = cols / format.groupSize;
    const borders = partBorders(cols, format, segmented), rowCodes = cols / 8;
    const codes = new Uint8Array(P * rows * rowCodes), scales = new Uint16Array(P * rows * groups), zeros = new Uint16Array(rows * groups);
    for await (const { first, tiles, rowScale } of tilesOf(name)) {
      const found = packers.elutqRows(format, cols, borders, tiles), ones = new Float32Array(rowScale.slice().buffer);
      for (let row = first; row < Math.min(rows, first + TILE_ROWS); row++) {
        const r = row - first, values = (P + 1) * groups * r;
        if (ones[r] !== 1) throw new UnsupportedFormatError(source.name, `${name}.rowScale`, `a row scale of ${ones[r]} in coding f16`, 'Pack the model again with this version.');
        for (let p = 0; p < P; p++) {
          codes.set(found.codes.subarray((r * P + p) * rowCodes, (r * P + p + 1) * rowCodes), (p * rows + row) * rowCodes);
          scales.set(found.scales.subarray(values + p * groups, values + (p + 1) * groups), (p * rows + row) * groups);
        }
        zeros.set(found.scales.subarray(values + P * groups, values + (P + 1) * groups), row * groups);
      }
    }
    await put(`${folder}/w_quant.bin`, codes);
    await put(`${folder}/w_scale.bin`, new Uint8Array(scales.buffer));
    await put(`${folder}/w_zero.bin`, new Uint8Array(zeros.buffer));
    if (bias) await vector(bias, `${folder}/bias.bin`, rows);
    await json(`${folder}/weight_config.json`, {
      weight_data_len: codes.length, base_bit: P, use_sparse: false, in_channel: cols, out_channel: rows, has_bias: Boolean(bias), groupsize: format.groupSize,
    });
  };

  await json('config.json', configOf(config, Object.values(linears).some(({ bias }) => bias)));
  await put('tokenizer.json', new TextEncoder().encode(new TextDecoder().decode(await tensor('tokenizer')).trimEnd()));
  // The template that puts BOS in front of a text is in tokenizer.json; other models need to be told.
  await json('tokenizer_config.json', { add_bos_token: config.addBos, ...header.chat?.tokens, ...(header.chat && { chat_template: header.chat.template }) });
  await vector('norm', 'final_rmsnorm_weight.bin', config.dim);
  for (let i = 0; i < config.nLayers; i++) {
    for (const [norm, file] of Object.entries(norms)) await vector(`layers.${i}.${norm}`, `${i}/${file}`, config.dim);
  }
  const shapes = linearShapes(config);
  for (const [i, { name, segmented }] of shapes.entries()) {
    const [, layer, rest] = /^layers\.(\d+)\.(.+)$/.exec(name) ?? [];
    if (rest) await planes(name, `${layer}/${folders[rest]}`, segmented);
    else await rounded(name, name === 'head' ? 'lm_head.bin' : config.tiedHead ? 'shared_embed_lm_head.bin' : 'embed_tokens.bin');
    onProgress?.(i + 1, shapes.length);
  }
  return stats;
}

/** Refuses what such a folder cannot say. */
function checkExportable(path: string, config: ModelConfig, linears: Record<string, LinearInfo>, extras: string[]): void {
  for (const [name, { cols, parts: [part] }] of Object.entries(linears)) {
    if (name === 'embedding' || name === 'head') continue;
    const { layout, coding, groupSize } = part!;
    if (layout !== 'planes' || coding !== 'f16') {
      throw new UnsupportedFormatError(path, `linears.${name}`, `layout ${layout}, coding ${coding}`, 'ELUTQ has bit planes with halves: pack the model with `lutra quantize SOURCE --bits 2 --coding f16`.');
    }
    if (cols % groupSize !== 0) throw new UnsupportedFormatError(path, `linears.${name}`, `${cols} columns in groups of ${groupSize}`, 'ELUTQ has whole groups only: pack the model in smaller groups.');
  }
  const others = extras.filter(name => !/^attn\.[qkv]\.bias$/.test(name));
  if (others.length > 0) throw new UnsupportedFormatError(path, others[0]!, 'has no place in such a folder', 'Llama and Qwen2 models can be exported.');
  const { activation, ropeScaling, slidingWindow } = config;
  if (activation !== 'silu' || ropeScaling || slidingWindow) {
    throw new UnsupportedFormatError(path, 'config', 'activations other than silu, rope scaling and sliding windows are not known to ELUTQ', 'Llama and Qwen2 models can be exported.');
  }
}

function configOf(config: ModelConfig, biases: boolean): object {
  return {
    architectures: [biases ? 'Qwen2ForCausalLM' : 'LlamaForCausalLM'], model_type: biases ? 'qwen2' : 'llama',
    hidden_size: config.dim, intermediate_size: config.hiddenDim, num_hidden_layers: config.nLayers, num_attention_heads: config.nHeads,
    num_key_value_heads: config.nHeadsKv, head_dim: config.headDim, vocab_size: config.vocabSize, max_position_embeddings: config.contextLength,
    rms_norm_eps: config.normEps, rope_theta: config.ropeTheta, hidden_act: 'silu', tie_word_embeddings: config.tiedHead, torch_dtype: 'float16',
    bos_token_id: config.bosId, eos_token_id: config.eosIds,
  };
}

/** A folder that appears under its name when it is complete, and not at all when it is not. */
export async function folderSink(path: string): Promise<FolderSink> {
  const { access, mkdir, rename, rm, writeFile } = await import('node:fs/promises');
  const { dirname, join } = await import('node:path');
  if (await access(path).then(() => true, () => false)) throw new BadArgumentError('output', `${path} is there already`, 'Give the name of a folder that does not exist.');
  const temporary = `${path}.${Math.random().toString(36).slice(2, 8)}.tmp`;
  const attempt = async <T>(action: Promise<T>): Promise<T> => {
    try {
      return await action;
    } catch (cause) {
      throw new FileAccessError(path, (cause as Error).message, 'Check that you may write there, and that the disk is not full.', { cause });
    }
  };
  await attempt(mkdir(temporary));
  return {
    async write(name, bytes) {
      await attempt(mkdir(dirname(join(temporary, name)), { recursive: true }));
      await attempt(writeFile(join(temporary, name), bytes));
    },
    async finish() { await attempt(rename(temporary, path)); },
    async abort() { await rm(temporary, { recursive: true, force: true }); },
  };
}

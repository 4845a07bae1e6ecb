/**
 * llama2.c checkpoints (https://github.com/karpathy/llama2.c, export.py). All three versions are a header of seven int32
 * (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len) and tensors in a fixed order:
 *
 *   v0  no magic; a negative vocab_size says that a classifier follows; f32: embedding, then for all layers each of
 *       rms_att, wq, wk, wv, wo, rms_ffn, w1, w2, w3, then rms_final, freq_cos, freq_sin, [classifier]
 *   v1  256-byte header with magic and version; f32: rms_att, rms_ffn, rms_final, embedding, wq … w3, [classifier]
 *   v2  as v1, matrices in Q8_0: each the int8 codes and then one f32 scale for `group` consecutive codes
 */
import { BadModelFileError, UnsupportedFormatError } from '../errors.js';
import { ByteReader, checkRange, readBytes } from './bytes.js';
import { checkConfig } from './config.js';
import { readLlama2cTokenizer } from './llama2c-tokenizer.js';
import { adjacentPairRow, type SourceMatrix, type SourceModel } from './source.js';
import type { ByteSource, ModelConfig } from './types.js';

export const LLAMA2C_MAGIC = 0x616b3432;
const HEADER_BYTES = 256;

interface Header {
  version: 0 | 1 | 2;
  config: ModelConfig;
  /** Weights that share a scale (v2). */
  group: number;
  /** File offset of the first tensor. */
  weights: number;
}

/**
 * `openTokenizer` opens the tokenizer.bin for a vocabulary of that size; it is closed before this returns. `file` is
 * closed by the model's `close()`, or by the caller when this rejects.
 */
export async function importLlama2c(file: ByteSource, openTokenizer: (vocabSize: number) => Promise<ByteSource>): Promise<SourceModel> {
  const { version, config, group, weights } = await readHeader(file);
  const { dim, hiddenDim, nLayers, headDim, vocabSize, contextLength } = config;
  const kv = config.nHeadsKv * headDim;
  const matrices = new Map<string, SourceMatrix>();
  const normOffsets = new Map<string, number>();
  let at = weights;

  const skip = (bytes: number, field: string) => {
    checkRange(file, at, bytes, field);
    at += bytes;
  };
  const norms = (names: string[]) => {
    for (const name of names) {
      normOffsets.set(name, at);
      skip(4 * dim, name);
    }
  };
  const matrix = (name: string, rows: number, cols: number, paired = false) => {
    const row = paired ? (r: number) => adjacentPairRow(r, headDim) : (r: number) => r;
    const begin = at;
    if (version < 2) {
      skip(4 * rows * cols, name);
      matrices.set(name, { name, rows, cols, encoding: 'f32', codes: { file, length: 4 * cols, offset: r => begin + 4 * cols * row(r) } });
      return;
    }
    if (rows * cols % group !== 0) throw new BadModelFileError(file.name, name, `${rows} x ${cols} weights do not fill groups of ${group}`);
    skip(rows * cols + 4 * (rows * cols / group), name);
    const scales = begin + rows * cols;
    // Groups run through the whole matrix: a row that begins inside one may touch a scale more.
    const perRow = cols % group === 0 ? cols / group : Math.min(Math.floor((cols + 2 * group - 2) / group), rows * cols / group);
    const firstScale = (r: number) => Math.floor(row(r) * cols / group);
    const lastStart = rows * cols / group - perRow;
    matrices.set(name, {
      name, rows, cols, encoding: 'q8', param: group,
      codes: { file, length: cols, offset: r => begin + cols * row(r) },
      scales: { file, length: 4 * perRow, offset: r => scales + 4 * Math.min(firstScale(r), lastStart) },
      phase: r => row(r) * cols - group * Math.min(firstScale(r), lastStart),
    });
  };
  const layers = (name: string) => Array.from({ length: nLayers }, (_, i) => `layers.${i}.${name}`);
  const perLayer = (name: string, rows: number, cols: number, paired = false) => {
    for (const layer of layers(name)) matrix(layer, rows, cols, paired);
  };
  const attention = () => {
    perLayer('attn.q', dim, dim, true);
    perLayer('attn.k', kv, dim, true);
    perLayer('attn.v', kv, dim);
    perLayer('attn.o', dim, dim);
  };
  const feedForward = () => {
    perLayer('ffn.gate', hiddenDim, dim);
    perLayer('ffn.down', dim, hiddenDim);
    perLayer('ffn.up', hiddenDim, dim);
  };

  if (version === 0) {
    matrix('embedding', vocabSize, dim);
    norms(layers('attn.norm'));
    attention();
    norms(layers('ffn.norm'));
    feedForward();
    norms(['norm']);
    skip(4 * contextLength * headDim, 'freq_cos, freq_sin');
  } else {
    norms([...layers('attn.norm'), ...layers('ffn.norm'), 'norm']);
    matrix('embedding', vocabSize, dim);
    attention();
    feedForward();
  }
  if (!config.tiedHead) matrix('head', vocabSize, dim);
  if (at !== file.size) throw new BadModelFileError(file.name, 'size', `${file.size} bytes, the header describes ${at}`);

  const tokenizer = await openTokenizer(vocabSize);
  let tokenizerJson;
  try {
    tokenizerJson = await readLlama2cTokenizer(tokenizer, vocabSize);
  } finally {
    await tokenizer.close();
  }
  const vectors = new Map<string, Float32Array>();
  for (const [name, offset] of normOffsets) vectors.set(name, new Float32Array((await readBytes(file, offset, 4 * dim, name)).buffer));
  return {
    config, tokenizerJson, matrices, vectors, bytes: file.size,
    provenance: { format: `llama2.c v${version}` }, close: () => file.close(),
  };
}

async function readHeader(file: ByteSource): Promise<Header> {
  const reader = new ByteReader(await readBytes(file, 0, Math.min(HEADER_BYTES, file.size), 'header'), file.name);
  let version = 0;
  if (reader.u32('magic') === LLAMA2C_MAGIC) {
    version = reader.i32('version');
    if (version !== 1 && version !== 2) {
      throw new UnsupportedFormatError(file.name, 'version', `llama2.c version ${version}`, 'Versions 0, 1 and 2 are known: export it as one of them.');
    }
  } else {
    reader.at = 0;
  }
  const [dim, hiddenDim, nLayers, nHeads, nHeadsKv, vocab, contextLength] =
    ['dim', 'hidden_dim', 'n_layers', 'n_heads', 'n_kv_heads', 'vocab_size', 'seq_len'].map(field => reader.i32(field)) as
      [number, number, number, number, number, number, number];
  const tiedHead = version === 0 ? vocab > 0 : reader.u8('shared_classifier') !== 0;
  const group = version === 2 ? reader.i32('group_size') : 0;
  if (version === 2 && group < 1) throw new BadModelFileError(file.name, 'group_size', `${group} is not positive`);
  if (version > 0) reader.take(HEADER_BYTES - reader.at, 'header');
  const config = checkConfig({
    architecture: 'llama', dim, hiddenDim, nLayers, nHeads, nHeadsKv, headDim: dim / nHeads, vocabSize: version === 0 ? Math.abs(vocab) : vocab,
    contextLength, normEps: 1e-5, ropeTheta: 10000, activation: 'silu', tiedHead, bosId: 1, eosIds: [1, 2], addBos: true,
  }, file.name);
  // A layer has at least this many bytes; no loop over layers that are not there.
  if (nLayers * dim > file.size) throw new BadModelFileError(file.name, 'n_layers', `${nLayers} layers do not fit into ${file.size} bytes`);
  return { version: version as 0 | 1 | 2, config, group, weights: reader.at };
}

/** A source model -> a packed file of few bits, calibrated; or rounded to even levels without data. */
import { BadArgumentError } from '../errors.js';
import { linearShapes, planPacked, extrasOf } from '../formats/packed.js';
import type { SourceModel } from '../formats/source.js';
import { packedSink } from '../pack/shards.js';
import { pack, planFor, type PackStats } from '../pack/pack.js';
import { Packers } from '../pack/packers.js';
import { cores } from '../platform/platform.js';
import { calibrationSequences } from './calibration.js';
import { Checkpoint } from './checkpoint.js';
import { quantise } from './quantise.js';
import { recipes, type Format } from './rounding.js';
import { partFormat, tilesOf } from './tiles.js';

export type Method = 'rtn' | 'elutq' | 'gptq' | 'best';

export interface QuantizeModelOptions {
  method: Method;
  /** Planes of a weight, 1 to 4; between them (from 2): a mean, matrix by matrix whole. Not with `size`. */
  bits?: number;
  /** Of the file, in bytes, at most. */
  size?: number;
  groupSize?: 32 | 64 | 128;
  /** Bytes of tensors in a file of several (pack/shards.ts). */
  shardSize?: number;
  /** Paths and 'self'; see CalibrationOptions. */
  calibration: readonly string[];
  calibrationTokens: number;
  /** As in `PackOptions`. */
  headBits?: 4;
  threads?: number;
  /** Whether to go on with what a run that was interrupted has left. */
  resume: boolean;
  signal?: AbortSignal;
  onProgress?(phase: string, done: number, total: number): void;
}

/** The file appears when it is complete. What is finished is kept beside it until then (Checkpoint). */
export async function quantizeModel(source: SourceModel, output: string, options: QuantizeModelOptions): Promise<PackStats> {
  if (source.defaultBits === 'ternary') throw new BadArgumentError('source', 'this model\'s weights are ternary, or become so when they are used', 'Pack it without `--method` and `--bits`.');
  const { method, signal, onProgress } = options, threads = options.threads ?? cores(), recipe = recipes[method];
  const planes = options.size === undefined ? options.bits! : meanPlanesFor(source, options.size, options.groupSize ?? 32, options.headBits);
  const isMixed = !Number.isInteger(planes);
  if (!(planes >= (isMixed ? 2 : 1) && planes <= 4)) throw new BadArgumentError('bits', `${planes} is not 1 or 2 to 4`);
  if (isMixed && (method === 'rtn' || method === 'elutq')) throw new BadArgumentError('bits', `${method} gives every matrix the same, a whole number`, 'Use method best or gptq.');
  const format: Format = {
    levels: method === 'elutq' ? 'planes' : 'uniform', planes: Math.ceil(planes), sixBit: method !== 'elutq',
    groupSize: options.groupSize ?? (method === 'best' && planes < 4 ? 32 : 64),
  };
  if (method !== 'rtn' && options.calibration.length === 0) throw new BadArgumentError('calibration', `method ${method} needs text`, 'Give `--calibration FILE`, or `--calibration self`.');
  const sequences = method === 'rtn' ? [] : await calibrationSequences(source, {
    from: options.calibration, tokens: options.calibrationTokens, threads, ...(signal && { signal }),
    onProgress: (done, total) => onProgress?.('sampling', done, total),
  });

  const key = JSON.stringify([__LUTRA_VERSION__, source.provenance, source.bytes, source.config, method, planes, format, hashOf(sequences)]);
  const checkpoint = await Checkpoint.open(output, key, options.resume);
  try {
    const packers = await Packers.create(), shapes = new Map(linearShapes(source.config).map(shape => [shape.name, shape]));
    let formats: ReadonlyMap<string, Format> = checkpoint.formats ?? new Map();
    await quantise(source, {
      recipe, format, sequences, threads, spill: `${output}.partial/activations`,
      ...(isMixed && { meanPlanes: planes }), ...(signal && { signal }),
      ...(checkpoint.layers > 0 && { resumed: { layers: checkpoint.layers, formats, restore: (...args) => checkpoint.restore(...args) } }),
      onFormats(all) {
        formats = all;
        checkpoint.setFormats(all);
      },
      onMatrix: async (name, rounded, one, values) => checkpoint.put(name, tilesOf(packers, shapes.get(name)!, one, rounded, values)),
      onLayer: (...args) => checkpoint.finishLayer(...args),
      onProgress: (phase, done, total) => onProgress?.(phase, done, total),
    });
    const stats = await pack(source, {
      bits: 8, threads, ...(options.headBits && { headBits: options.headBits }), ...(signal && { signal }),
      rounded: { method, formats: new Map([...formats].map(([name, one]) => [name, partFormat(one)])), tiles: name => checkpoint.tiles(name) },
      onProgress: (done, total) => onProgress?.('packing', done, total),
    }, await packedSink(output, options.shardSize));
    await checkpoint.remove();
    return stats;
  } catch (error) {
    if (checkpoint.layers === 0) await checkpoint.remove();
    throw error;
  }
}

/** The mean number of planes with which the file has at most `size` bytes. */
function meanPlanesFor(source: SourceModel, size: number, groupSize: number, headBits: 4 | undefined): number {
  const matrices = linearShapes(source.config).filter(({ name }) => name.startsWith('layers.'));
  const { formats } = planFor(source, { bits: 8, embedding: 'int8', ...(headBits && { headBits }) });
  const fewest = partFormat({ levels: 'uniform', planes: 2, groupSize, sixBit: true });
  const plan = planPacked(source.config, extrasOf(name => source.vectors.has(name)), source.tokenizerJson.length,
    ({ name }) => name.startsWith('layers.') ? fewest : formats.get(name)!);
  // The header's JSON: every tensor and layer is described once, in less than this.
  const least = plan.dataBytes + 300 * plan.tensors.size + 4096;
  const mean = 2 + 8 * (size - least) / matrices.reduce((sum, { rows, cols }) => sum + rows * cols, 0);
  if (mean < 2) throw new BadArgumentError('size', `${size} bytes are too few: at 2 bits the file has up to ${least}`, 'Give a larger size.');
  return Math.min(4, Math.floor(mean * 100) / 100);
}

/** FNV-1a over all ids and lengths, as text. */
function hashOf(sequences: readonly (readonly number[])[]): string {
  let hash = 0x811c9dc5, tokens = 0;
  for (const ids of sequences) for (const id of [ids.length, ...ids]) hash = Math.imul(hash ^ id, 0x01000193);
  for (const ids of sequences) tokens += ids.length;
  return `${tokens}:${(hash >>> 0).toString(16)}`;
}

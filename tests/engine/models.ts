/** Packed models in memory with random weights: small and odd in every size, one for each weight format. */
import { numberToHalf } from '../assembly/reference.js';
import { randomTiles, noise } from '../cpp/harness.js';
import type { EngineOptions } from '../../src/engine/types.js';
import { ROPE_DIVISORS, planPacked, vectorLengths, type Extras, type PartFormat } from '../../src/formats/packed.js';
import type { ByteSource, ModelConfig, PackedHeader } from '../../src/formats/types.js';
import { bytesSource } from '../../src/platform/platform.js';

export interface TestModel {
  name: string;
  header: PackedHeader;
  source: ByteSource;
  /** How it wants to be run. */
  options?: Pick<EngineOptions, 'kvType'>;
}

const f32: PartFormat = { layout: 'f32', planes: 0, groupSize: 0, coding: 'none' };
const int8: PartFormat = { layout: 'int8', planes: 0, groupSize: 0, coding: 'none' };

/** Root mean square of random weights of a format, about: row scales divide by it, so that outputs are of the size of inputs. */
function sizeOfWeights({ layout, planes, coding }: PartFormat): number {
  const value = coding === 'i16' ? 9000 : coding.startsWith('f16') ? 0.3 : coding.startsWith('k') ? 10 : coding === 'i6' ? 37 : 0.6;
  return layout === 'int8' ? 74 * (coding === 'f16' ? value : 1) : layout === 'uniform' ? 0.35 * 2 ** planes * value : value;
}

/** `formats`: one for all layers, embedding and head at 8 or 32 bits; or one for each layer. */
export function randomModel(name: string, formats: PartFormat | ((layer: string) => PartFormat), changes: Partial<ModelConfig> = {}, extras: Extras = new Set()): TestModel {
  const config: ModelConfig = {
    architecture: 'llama', dim: 72, hiddenDim: 172, nLayers: 2, nHeads: 6, nHeadsKv: 2, headDim: 24, vocabSize: 515, contextLength: 200, normEps: 1e-5,
    ropeTheta: 10000, ropeScaling: null, slidingWindow: null, activation: 'silu', tiedHead: false, bosId: 1, eosIds: [2], addBos: true, ...changes,
  };
  const formatOf = (layer: string): PartFormat => {
    if (typeof formats === 'function') return formats(layer);
    return layer !== 'embedding' && layer !== 'head' ? formats : formats.layout === 'f32' ? f32 : int8;
  };
  const { linears, tensors, dataBytes } = planPacked(config, extras, 64, ({ name }) => formatOf(name));
  const bytes = new Uint8Array(dataBytes), random = noise(dataBytes);
  const floats = (tensor: string, count: number) => new Float32Array(bytes.buffer, tensors.get(tensor)!.begin, count);
  for (const linear of Object.values(linears)) {
    for (const part of linear.parts) {
      const { begin, end } = tensors.get(part.tensor)!;
      randomTiles(new DataView(bytes.buffer, begin, end - begin), part, part.colEnd - part.colBegin, random);
    }
    const { begin, end, dtype } = tensors.get(linear.rowScale)!, scale = 1 / (sizeOfWeights(linear.parts[0]!) * Math.sqrt(linear.cols));
    const isRow = (i: number) => 16 * (i >> 5) + i % 16 < linear.rows; // tile by tile 16 scales, then 16 of centres
    if (dtype === 'F16') new Uint16Array(bytes.buffer, begin, (end - begin) / 2).forEach((_, i, halves) => { if (isRow(i)) halves[i] = numberToHalf(scale * (1 + 0.25 * random())); });
    else floats(linear.rowScale, linear.rows).forEach((_, i, scales) => { scales[i] = scale * (1 + 0.25 * random()); });
  }
  for (const [name, length] of vectorLengths(config, extras)) {
    const middle = name.endsWith('.bias') ? 0 : name === ROPE_DIVISORS ? 4 : 1;
    floats(name, length).forEach((_, i, values) => { values[i] = middle + 0.25 * random(); });
  }
  const header: PackedHeader = { version: 1, config, linears, tensors: Object.fromEntries(tensors), dataOffset: 0, dataBytes, provenance: {} };
  return { name, header, source: bytesSource(name, bytes) };
}

const subNorms = new Set(['attn.subNorm', 'ffn.subNorm']);
const qkNorms = ['attn.qNorm', 'attn.kNorm'], qkvBiases = ['attn.q.bias', 'attn.k.bias', 'attn.v.bias'];
const allBiases = [...qkvBiases, 'attn.o.bias', 'ffn.gate.bias', 'ffn.up.bias', 'ffn.down.bias'];
const yarn = { type: 'yarn', factor: 4, originalLength: 50, low: 1, high: 32, truncate: true, attention: null } as const;

/** What architectures add to Llama; odd sizes again. */
function* everyArchitecture(): Generator<TestModel> {
  const planes2: PartFormat = { layout: 'planes', planes: 2, groupSize: 32, coding: 'i16' };
  const planes4: PartFormat = { layout: 'planes', planes: 4, groupSize: 64, coding: 'f32' };
  const ternary: PartFormat = { layout: 'ternary', planes: 2, groupSize: 128, coding: 'none' };
  yield randomModel('all biases, llama3', planes2, { dim: 70, hiddenDim: 173, ropeTheta: 500000, ropeScaling: { type: 'llama3', factor: 8, originalLength: 64, low: 1, high: 4 } }, new Set(allBiases));
  yield randomModel('all biases, ternary, sub-norms, linear', ternary, { hiddenDim: 150, ropeScaling: { type: 'linear', factor: 4 } }, new Set([...allBiases, ...subNorms]));
  yield randomModel('norms of q and k, heads wider than dim, yarn', planes4, { headDim: 40, tiedHead: true, ropeScaling: yarn }, new Set(qkNorms));
  yield randomModel('norms of q and k, narrow heads, some biases, yarn by its numbers', int8,
    { headDim: 8, nHeads: 5, nHeadsKv: 1, ropeScaling: { ...yarn, truncate: false, attention: 0.9 } }, new Set([...qkNorms, ...qkvBiases]));
  yield randomModel('divisors of frequencies', planes2, { ropeTheta: 500000 }, new Set([ROPE_DIVISORS]));
}

const uniform = (planes: number, groupSize: number, coding: PartFormat['coding']): PartFormat => ({ layout: 'uniform', planes, groupSize, coding });

/** Uniform levels as quantisers and GGUF have them, in embedding and head too. */
function* everyUniform(): Generator<TestModel> {
  for (const [planes, groupSize] of [[1, 64], [2, 32], [3, 128], [4, 64]] as const) yield randomModel(`uniform ${planes} i6 g${groupSize}`, uniform(planes, groupSize, 'i6'));
  // Mixed bits: whoever reads one input may want it in several forms.
  const mixed: Record<string, PartFormat> = {
    q: uniform(2, 64, 'i6'), k: uniform(4, 32, 'i6'), v: uniform(3, 32, 'i6'), o: uniform(2, 32, 'i6'), gate: uniform(1, 128, 'i6'), up: { layout: 'planes', planes: 2, groupSize: 64, coding: 'i16' },
    down: uniform(3, 64, 'i6'), embedding: uniform(4, 32, 'i6'), head: { layout: 'int8', planes: 0, groupSize: 32, coding: 'f16' },
  };
  yield randomModel('mixed bits', layer => mixed[/\w+$/.exec(layer)![0]]!);
  const blocks = { dim: 256, hiddenDim: 1280, headDim: 64, nHeads: 4 };
  for (const [planes, groupSize, coding] of [[4, 32, 'f16'], [5, 32, 'f16mid'], [3, 64, 'f32'], [2, 16, 'k4'], [5, 32, 'k6'], [3, 16, 'k8'], [6, 16, 'k8']] as const) {
    yield randomModel(`uniform ${planes} ${coding} g${groupSize}`, () => uniform(planes, groupSize, coding), { ...(coding.startsWith('k') && blocks), tiedHead: planes % 2 === 0 });
  }
  yield randomModel('int8 f16 g32', () => ({ layout: 'int8', planes: 0, groupSize: 32, coding: 'f16' }));
}

/** Every weight format and every architecture; the sizes differ from one to the next. */
export function* everyFormat(): Generator<TestModel> {
  const groups = [32, 64, 128];
  let i = 0;
  for (const planes of [1, 2, 3, 4]) {
    for (const coding of ['i16', 'f16', 'f32'] as const) {
      const groupSize = groups[(planes + i++) % 3]!;
      const changes = i % 2 ? {} : { headDim: 8, nHeads: 9, nHeadsKv: 3, tiedHead: true };
      yield randomModel(`planes ${planes} ${coding} g${groupSize}`, { layout: 'planes', planes, groupSize, coding }, changes);
    }
  }
  for (const coding of ['none', 'f16', 'f32'] as const) {
    const groupSize = groups[i++ % 3]!;
    yield randomModel(`ternary ${coding} g${groupSize}`, { layout: 'ternary', planes: 2, groupSize, coding }, { activation: 'relu2' }, subNorms);
  }
  yield randomModel('int8', int8, { nHeadsKv: 6 });
  yield randomModel('f32', f32, { dim: 70, hiddenDim: 173, nHeads: 3, nHeadsKv: 1 });
  yield randomModel('wide', { layout: 'planes', planes: 2, groupSize: 128, coding: 'i16' }, { dim: 320, hiddenDim: 700, nHeads: 4, nHeadsKv: 2, headDim: 80 }, new Set(['attn.subNorm']));
  yield { ...randomModel('int8 cache, groups of 11 heads', int8, { nHeads: 22, nHeadsKv: 2, headDim: 8 }), options: { kvType: 'int8' } };
  yield { ...randomModel('int8 cache, every head its own', int8, { nHeads: 3, nHeadsKv: 3, headDim: 40 }), options: { kvType: 'int8' } };
  yield* everyUniform();
  yield* everyArchitecture();
}

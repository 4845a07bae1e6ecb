/** Packed models in memory with random weights: small and odd in every size, one for each weight format. */
import { randomTiles, noise } from '../cpp/harness.js';
import { normLengths, planPacked, type PartFormat, type SubNorms } from '../../src/formats/packed.js';
import type { ByteSource, ModelConfig, PackedHeader } from '../../src/formats/types.js';
import { bytesSource } from '../../src/platform/platform.js';

export interface TestModel {
  name: string;
  header: PackedHeader;
  source: ByteSource;
}

const f32: PartFormat = { layout: 'f32', planes: 0, groupSize: 0, coding: 'none' };
const int8: PartFormat = { layout: 'int8', planes: 0, groupSize: 0, coding: 'none' };

/** Root mean square of random weights of a format, about: row scales divide by it, so that outputs are of the size of inputs. */
const sizeOfWeights = ({ layout, coding }: PartFormat) => layout === 'int8' ? 74 : coding === 'i16' ? 9000 : coding === 'f16' ? 0.3 : 0.6;

export function randomModel(name: string, format: PartFormat, changes: Partial<ModelConfig> = {}, subNorms: SubNorms = { attn: false, ffn: false }): TestModel {
  const config: ModelConfig = {
    architecture: 'llama', dim: 72, hiddenDim: 172, nLayers: 2, nHeads: 6, nHeadsKv: 2, headDim: 24, vocabSize: 515, contextLength: 200, normEps: 1e-5,
    ropeTheta: 10000, activation: 'silu', tiedHead: false, bosId: 1, eosIds: [2], addBos: true, ...changes,
  };
  const rows = format.layout === 'f32' ? f32 : int8;
  const { linears, tensors, dataBytes } = planPacked(config, subNorms, 64, ({ name }) => name === 'embedding' || name === 'head' ? rows : format);
  const bytes = new Uint8Array(dataBytes), random = noise(dataBytes);
  const floats = (tensor: string, count: number) => new Float32Array(bytes.buffer, tensors.get(tensor)!.begin, count);
  for (const linear of Object.values(linears)) {
    for (const part of linear.parts) {
      const { begin, end } = tensors.get(part.tensor)!;
      randomTiles(new DataView(bytes.buffer, begin, end - begin), part, part.colEnd - part.colBegin, random);
    }
    const scale = 1 / (sizeOfWeights(linear.parts[0]!) * Math.sqrt(linear.cols));
    floats(linear.rowScale, linear.rows).forEach((_, i, scales) => { scales[i] = scale * (1 + 0.25 * random()); });
  }
  for (const [norm, length] of normLengths(config, subNorms)) floats(norm, length).forEach((_, i, values) => { values[i] = 1 + 0.25 * random(); });
  const header: PackedHeader = { version: 1, config, linears, tensors: Object.fromEntries(tensors), dataOffset: 0, dataBytes, provenance: {} };
  return { name, header, source: bytesSource(name, bytes) };
}

/** Every weight format; the sizes differ from one to the next. */
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
    yield randomModel(`ternary ${coding} g${groupSize}`, { layout: 'ternary', planes: 2, groupSize, coding }, { activation: 'relu2' }, { attn: true, ffn: true });
  }
  yield randomModel('int8', int8, { nHeadsKv: 6 });
  yield randomModel('f32', f32, { dim: 70, hiddenDim: 173, nHeads: 3, nHeadsKv: 1 });
  yield randomModel('wide', { layout: 'planes', planes: 2, groupSize: 128, coding: 'i16' }, { dim: 320, hiddenDim: 700, nHeads: 4, nHeadsKv: 2, headDim: 80 }, { attn: true, ffn: false });
}

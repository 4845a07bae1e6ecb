/** Models of real shapes with random weights: what speed depends on is their size, not their meaning. */
import { randomFillSync } from 'node:crypto';
import { planPacked, type PartFormat } from '../src/formats/packed.js';
import type { ByteSource, ModelConfig, PackedHeader } from '../src/formats/types.js';

export interface Shape {
  dim: number; hiddenDim: number; nLayers: number; nHeads: number; nHeadsKv: number; vocabSize: number;
}

export const shapes: Record<string, Shape> = {
  '134m': { dim: 768, hiddenDim: 2048, nLayers: 12, nHeads: 12, nHeadsKv: 12, vocabSize: 32000 },
  '1.1b': { dim: 2048, hiddenDim: 5632, nLayers: 22, nHeads: 32, nHeadsKv: 4, vocabSize: 32000 }, // TinyLlama
  '7b': { dim: 4096, hiddenDim: 11008, nLayers: 32, nHeads: 32, nHeadsKv: 32, vocabSize: 32000 }, // Llama 2
};

export function formatOf(bits: string, groupSize: number): PartFormat {
  if (bits === 'ternary') return { layout: 'ternary', planes: 2, groupSize: 128, coding: 'none' };
  if (bits === '8') return int8;
  return { layout: 'planes', planes: Number(bits), groupSize, coding: 'i16' };
}
const int8: PartFormat = { layout: 'int8', planes: 0, groupSize: 0, coding: 'none' };

/** A packed model that exists only as a header and a rule for its bytes. */
export function synthetic(shape: Shape, bits: string, groupSize: number, headBits: string): { header: PackedHeader; source: ByteSource } {
  const config: ModelConfig = {
    architecture: 'llama', ...shape, headDim: shape.dim / shape.nHeads, contextLength: 8192, normEps: 1e-5, ropeTheta: 10000, ropeScaling: null, slidingWindow: null,
    activation: 'silu', tiedHead: false, bosId: 1, eosIds: [2], addBos: true,
  };
  const plan = planPacked(config, new Set(), 64, ({ name }) => name === 'embedding' ? int8 : name === 'head' ? formatOf(headBits, 128) : formatOf(bits, groupSize));
  const header: PackedHeader = { version: 1, config, linears: plan.linears, tensors: Object.fromEntries(plan.tensors), dataOffset: 0, dataBytes: plan.dataBytes, provenance: {} };

  // Row scales that keep activations near 1, so that no denormal or overflow spoils the timing; norms are 1.
  const floats: { begin: number; end: number; value: number }[] = [];
  for (const [name, { dtype, begin, end }] of plan.tensors) {
    if (dtype !== 'F32') continue;
    const linear = plan.linears[name.replace(/\.rowScale$/, '')];
    floats.push({ begin, end, value: linear ? 1 / ((linear.parts[0]!.layout === 'planes' ? 2 ** 15 : linear.parts[0]!.layout === 'int8' ? 64 : 1) * Math.sqrt(linear.cols)) : 1 });
  }
  const noise = randomFillSync(new Uint8Array(1 << 20));
  const source: ByteSource = {
    name: 'synthetic', size: plan.dataBytes,
    async read(target, offset) {
      for (let at = 0, n; at < target.length; at += n) {
        const from = (offset + at) % noise.length;
        n = Math.min(noise.length - from, target.length - at);
        target.set(noise.subarray(from, from + n), at);
      }
      for (const { begin, end, value } of floats) {
        const from = Math.max(begin, offset), to = Math.min(end, offset + target.length);
        if (from < to) new Float32Array(target.buffer, target.byteOffset + from - offset, (to - from) / 4).fill(value);
      }
    },
    async close() {},
  };
  return { header, source };
}

/** Weights that a decode step reads, and their bytes (the embedding is only looked up). */
export function streamed(header: PackedHeader): { weights: number; bytes: number } {
  let weights = 0, bytes = 0;
  for (const [name, { rows, cols, parts, rowScale }] of Object.entries(header.linears)) {
    if (name === 'embedding' && header.linears.head) continue;
    weights += rows * cols;
    for (const tensor of [rowScale, ...parts.map(part => part.tensor)]) bytes += header.tensors[tensor]!.end - header.tensors[tensor]!.begin;
  }
  return { weights, bytes };
}

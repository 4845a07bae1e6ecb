/**
 * Where everything lies in the engine's memory:
 *
 *   0 … HEAP_BASE   static data and the first stack (the linker's)
 *   descriptors     Model, Layers, Linears, Parts: what cpp/generated/layout.h calls structs
 *   stacks          one for each further worker
 *   exchange        rows of a pass, sampling options, recent ids, logit bias
 *   weights         the file's data section, as it is
 *   workspace       what a pass writes
 *   KV caches       one slot per session; memory grows slot by slot, up to the maximum
 */
import { ROPE_DIVISORS } from '../formats/packed.js';
import type { ModelConfig, PackedHeader } from '../formats/types.js';
import {
  ALIGN, Activation, Coding, HEAP_BASE, KV_BLOCK, Layout, MAX_ROWS, MAX_THREADS, RopeScaling, STACK_BYTES, TILE_ROWS, sizeOfLayer, sizeOfLinear,
  sizeOfModel, sizeOfPart, sizeOfRope, sizeOfRow, sizeOfSampling, writeLayer, writeLinear, writeModel, writePart, writeRope, type RopeFields,
} from '../generated/layout.js';

export const align = (n: number, to: number = ALIGN): number => Math.ceil(n / to) * to;
export const PAGE = 65536;

/** Ids the repetition penalty can look at. */
export const MAX_RECENT = 1024;

export interface MemoryPlan {
  model: number;
  /** Address of every part's descriptor. */
  parts: number[];
  stacks: number;
  rows: number;
  sampling: number;
  recent: number;
  bias: number;
  weights: number;
  /** Bytes of the data section that the engine keeps: everything before the tokenizer. */
  weightBytes: number;
  workspace: number;
  /** Bytes of one session's KV cache. */
  kvBytes: number;
}

/** Addresses up to the workspace, whose size only the engine knows. */
export function planMemory(header: PackedHeader, context: number): MemoryPlan {
  const { config, linears } = header;
  const nParts = Object.values(linears).reduce((n, linear) => n + linear.parts.length, 0);
  let at = HEAP_BASE;
  const take = (bytes: number) => { const start = at; at = align(at + bytes); return start; };
  const model = take(sizeOfModel + sizeOfRope + config.nLayers * sizeOfLayer + Object.keys(linears).length * sizeOfLinear + nParts * sizeOfPart + 4 * ALIGN);
  const stacks = take(MAX_THREADS * STACK_BYTES);
  const rows = take(MAX_ROWS * sizeOfRow);
  const sampling = take(sizeOfSampling);
  const recent = take(4 * MAX_RECENT);
  const bias = take(4 * config.vocabSize);
  const weightBytes = header.tensors.tokenizer!.begin;
  const weights = take(weightBytes);
  const positions = align(context, KV_BLOCK);
  return {
    model, parts: [], stacks, rows, sampling, recent, bias, weights, weightBytes, workspace: at,
    kvBytes: align(config.nLayers * config.nHeadsKv * positions * 2 * config.headDim * 4),
  };
}

/** Writes the descriptors; fills `plan.parts`. */
export function writeDescriptors(memory: WebAssembly.Memory, plan: MemoryPlan, header: PackedHeader, context: number, reference: boolean): void {
  const { config, linears, tensors } = header;
  const view = new DataView(memory.buffer);
  const tensor = (name: string) => plan.weights + tensors[name]!.begin;
  const optional = (name: string) => name in tensors ? tensor(name) : 0;
  let at = plan.model;
  const take = (bytes: number) => { const start = at; at = align(at + bytes, 8); return start; };
  take(sizeOfModel);
  const rope = take(sizeOfRope);
  const layers = take(config.nLayers * sizeOfLayer);

  const addresses: Record<string, number> = {};
  for (const [name, linear] of Object.entries(linears)) {
    const parts = take(linear.parts.length * sizeOfPart), address = addresses[name] = take(sizeOfLinear);
    const tiles = Math.ceil(linear.rows / TILE_ROWS), rowScale = tensor(linear.rowScale);
    const own = tensors[linear.rowScale]!.dtype === 'F16'; // the parts' kernels multiply by them, not the layer
    linear.parts.forEach((part, i) => {
      const { begin, end } = tensors[part.tensor]!;
      plan.parts.push(parts + i * sizeOfPart);
      writePart(view, parts + i * sizeOfPart, {
        layout: Layout[part.layout], planes: part.planes, groupSize: part.groupSize, coding: Coding[part.coding],
        colBegin: part.colBegin, cols: part.colEnd - part.colBegin, data: plan.weights + begin, tileBytes: (end - begin) / tiles,
        rowScale: own ? rowScale : 0,
      });
    });
    writeLinear(view, address, {
      rows: linear.rows, cols: linear.cols, nParts: linear.parts.length, parts,
      rowScale: own ? 0 : rowScale, bias: linear.bias ? tensor(linear.bias) : 0,
    });
  }
  for (let i = 0; i < config.nLayers; i++) {
    const linear = (name: string) => addresses[`layers.${i}.${name}`]!;
    writeLayer(view, layers + i * sizeOfLayer, {
      attnNorm: tensor(`layers.${i}.attn.norm`), attnSubNorm: optional(`layers.${i}.attn.subNorm`),
      q: linear('attn.q'), k: linear('attn.k'), v: linear('attn.v'), o: linear('attn.o'),
      qNorm: optional(`layers.${i}.attn.qNorm`), kNorm: optional(`layers.${i}.attn.kNorm`),
      ffnNorm: tensor(`layers.${i}.ffn.norm`), ffnSubNorm: optional(`layers.${i}.ffn.subNorm`),
      gate: linear('ffn.gate'), up: linear('ffn.up'), down: linear('ffn.down'),
    });
  }
  writeRope(view, rope, ropeFields(config, optional(ROPE_DIVISORS)));
  writeModel(view, plan.model, {
    dim: config.dim, hiddenDim: config.hiddenDim, nLayers: config.nLayers, nHeads: config.nHeads, nHeadsKv: config.nHeadsKv,
    headDim: config.headDim, vocabSize: config.vocabSize, contextLength: context, normEps: config.normEps,
    activation: Activation[config.activation], rope, layers, embedding: addresses.embedding!,
    norm: tensor('norm'), head: addresses.head ?? addresses.embedding!, reference: reference ? 1 : 0,
  });
}

/** @param divisors address, or 0 */
export function ropeFields({ ropeTheta, ropeScaling }: ModelConfig, divisors: number): RopeFields {
  const { type = 'none', ...scaling } = ropeScaling ?? {};
  return {
    theta: ropeTheta, factor: 1, originalLength: 1, low: 1, high: 1, ...scaling, attention: 'attention' in scaling ? scaling.attention ?? 0 : 0,
    truncate: 'truncate' in scaling && scaling.truncate ? 1 : 0, scaling: RopeScaling[type], divisors,
  };
}

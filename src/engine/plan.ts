/**
 * Where everything lies in the engine's memory:
 *
 *   0 … HEAP_BASE   static data and the first stack (the linker's)
 *   descriptors     Model, Layers, Linears, Parts: what cpp/generated/layout.h calls structs
 *   stacks          one for each further worker
 *   exchange        rows of a pass, sampling options, recent ids, logit bias
 *   weights         the file's data section, as it is; of a slice the bytes that it holds, one after the other
 *   workspace       what a pass writes
 *   KV caches       one slot per session; memory grows slot by slot, up to the maximum
 */
import { ROPE_DIVISORS } from '../formats/packed.js';
import type { ModelConfig, PackedHeader } from '../formats/types.js';
import {
  ALIGN, Activation, Coding, HEAP_BASE, KV_BLOCK, KV_SCALE_BYTES, KV_VALUE_BYTES, KvType, Layout, MAX_ROWS, MAX_THREADS, RopeScaling, STACK_BYTES, TILE_ROWS, sizeOfLayer, sizeOfLinear,
  sizeOfModel, sizeOfPart, sizeOfRope, sizeOfRow, sizeOfSampling, writeLayer, writeLinear, writeModel, writePart, writeRope, type RopeFields,
} from '../generated/layout.js';
import { cut, heldBytes, heldKvHeads, tiedHeadTiles, tilesOf, whole, type Range, type Slice } from './slices.js';
import type { EngineOptions, KvTypeName } from './types.js';

export const align = (n: number, to: number = ALIGN): number => Math.ceil(n / to) * to;
export const PAGE = 65536;

/** Ids the repetition penalty can look at. */
export const MAX_RECENT = 1024;

/** Bytes [begin, end) of the data section, kept at address `at`. */
export interface Run extends Range { at: number }

export interface MemoryPlan {
  slice: Slice;
  model: number;
  /** Address of every part's descriptor. */
  parts: number[];
  stacks: number;
  rows: number;
  sampling: number;
  recent: number;
  bias: number;
  weights: number;
  /** Bytes of the data section that are kept: everything before the tokenizer, or a slice of it. */
  weightBytes: number;
  /** Where each tensor is, and which bytes of it. */
  tensors: Map<string, Run>;
  /** The same in as few pieces as there are, in file order. */
  runs: Run[];
  workspace: number;
  /** Bytes of one session's KV cache. */
  kvBytes: number;
}

/** Addresses up to the workspace, whose size only the engine knows. */
export function planMemory(header: PackedHeader, context: number, kvType: KvTypeName, slice: Slice = whole): MemoryPlan {
  const { config, linears } = header;
  const nParts = Object.values(linears).reduce((n, linear) => n + linear.parts.length, 0);
  let at = HEAP_BASE;
  const take = (bytes: number) => { const start = at; at = align(at + bytes); return start; };
  const nLinears = Object.keys(linears).length + 1; // a tied head may be a layer of its own
  const model = take(sizeOfModel + sizeOfRope + config.nLayers * sizeOfLayer + nLinears * sizeOfLinear + (nParts + 1) * sizeOfPart + 4 * ALIGN);
  const stacks = take(MAX_THREADS * STACK_BYTES);
  const rows = take(MAX_ROWS * sizeOfRow);
  const sampling = take(sizeOfSampling);
  const recent = take(4 * MAX_RECENT);
  const bias = take(4 * config.vocabSize);
  const { tensors, runs, weightBytes } = place(heldBytes(header, slice), at);
  const weights = take(weightBytes);
  return {
    slice, model, parts: [], stacks, rows, sampling, recent, bias, weights, weightBytes, tensors, runs, workspace: at,
    kvBytes: align(align(context, KV_BLOCK) * kvPositionBytes(config, kvType, heldKvHeads(header, slice))),
  };
}

/** Bytes of the KV cache for a position. @param heads KV heads of a layer; default: all */
export function kvPositionBytes({ nLayers, nHeadsKv, headDim }: ModelConfig, type: KvTypeName, heads = nHeadsKv): number {
  return 2 * nLayers * heads * (headDim * KV_VALUE_BYTES[type] + KV_SCALE_BYTES[type]);
}

/** Bytes of a position in f32 from which on int8 is the default: below, the cache is small beside any model and its reading takes no time. */
const LARGE_POSITION = 32 << 10;

/** The default: int8 where the cache counts, unless the weights themselves are f32. */
export const defaultKvType = (config: ModelConfig, areF32: boolean): KvTypeName =>
  areF32 || kvPositionBytes(config, 'f32') < LARGE_POSITION ? 'f32' : 'int8';

/** The same for a packed model. */
export const kvTypeFor = ({ config, linears }: PackedHeader): KvTypeName =>
  defaultKvType(config, Object.entries(linears).every(([name, { parts }]) => !name.startsWith('layers.') || parts.every(({ layout }) => layout === 'f32')));

/** One after the other: all of them are multiples of 32 bytes. */
function place(held: Map<string, Range>, weights: number): Pick<MemoryPlan, 'tensors' | 'runs' | 'weightBytes'> {
  const tensors = new Map<string, Run>(), runs: Run[] = [];
  let at = weights;
  for (const [name, { begin, end }] of held) {
    tensors.set(name, { begin, end, at });
    const last = runs.at(-1);
    if (last?.end === begin) last.end = end;
    else if (end > begin) runs.push({ begin, end, at });
    at += end - begin;
  }
  return { tensors, runs, weightBytes: at - weights };
}

/** Writes the descriptors; fills `plan.parts`. */
export function writeDescriptors(memory: WebAssembly.Memory, plan: MemoryPlan, header: PackedHeader, { context, kvType, reference }: Pick<EngineOptions, 'context' | 'reference'> & { kvType: KvTypeName }): void {
  const { config, linears, tensors } = header, { slice } = plan, cuts = cut(header, slice);
  const view = new DataView(memory.buffer);
  const optional = (name: string) => plan.tensors.get(name)?.at ?? 0;
  const tensor = (name: string) => plan.tensors.get(name)!.at;
  let at = plan.model;
  const take = (bytes: number) => { const start = at; at = align(at + bytes, 8); return start; };
  take(sizeOfModel);
  const rope = take(sizeOfRope);
  const layers = take(config.nLayers * sizeOfLayer);

  /** Tiles of the linear layer `name`, which begin where its tensors do. */
  const writeTiles = (name: string, { begin, end }: Range, held = linears[name]!.parts, byColumns = false) => {
    const linear = linears[name]!, parts = take(held.length * sizeOfPart), address = take(sizeOfLinear);
    const tiles = tilesOf(linear.rows), rowScale = tensor(linear.rowScale);
    const own = tensors[linear.rowScale]!.dtype === 'F16'; // the parts' kernels multiply by them, not the layer
    held.forEach((part, i) => {
      const { begin, end } = tensors[part.tensor]!;
      plan.parts.push(parts + i * sizeOfPart);
      writePart(view, parts + i * sizeOfPart, {
        layout: Layout[part.layout], planes: part.planes, groupSize: part.groupSize, coding: Coding[part.coding],
        colBegin: part.colBegin, cols: part.colEnd - part.colBegin, data: tensor(part.tensor), tileBytes: (end - begin) / tiles,
        rowScale: own ? rowScale : 0,
      });
    });
    const firstRow = begin * TILE_ROWS;
    writeLinear(view, address, {
      rows: Math.max(0, Math.min(linear.rows, end * TILE_ROWS) - firstRow), cols: linear.cols, nParts: held.length, parts,
      rowScale: own ? 0 : rowScale, bias: linear.bias ? tensor(linear.bias) : 0, firstRow, byColumns: byColumns ? 1 : 0,
    });
    return address;
  };
  const addresses: Record<string, number> = {};
  for (const name of Object.keys(linears)) {
    const { tiles, parts, byColumns } = cuts(name);
    addresses[name] = writeTiles(name, tiles, parts, byColumns);
  }
  const tied = tiedHeadTiles(header, slice), head = tied ? writeTiles('embedding', tied) : addresses.head ?? addresses.embedding!;
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
    activation: Activation[config.activation], rope, layers, embedding: slice.rank === 0 ? addresses.embedding! : 0,
    norm: tensor('norm'), head, reference: reference ? 1 : 0, ...slice, kvType: KvType[kvType],
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

/** The packed model file (docs/format.md): what a header must say, and the reader that checks that it does. */
import { BadModelFileError, UnsupportedFormatError } from '../errors.js';
import { ALIGN, BLOCK_COLUMNS, BLOCK_PARAM_BYTES, FORMAT_VERSION, GROUP_PARAM_BYTES, SEGMENTS, TILE_ROWS, VALUE_BYTES } from '../generated/layout.js';
import { isObject, parseJson, shown } from './bytes.js';
import { checkChat } from './chat.js';
import { checkConfig } from './config.js';
import { readSafetensorsHeader } from './safetensors.js';
import type { ByteSource, CodingName, LayoutName, LinearInfo, ModelConfig, PackedHeader, PartInfo, TensorInfo } from './types.js';

/** How the weights of a part are stored. */
export type PartFormat = Pick<PartInfo, 'layout' | 'planes' | 'groupSize' | 'coding'>;

export interface LinearShape {
  name: string;
  rows: number;
  cols: number;
  /** Cut into column segments, because its sums are shared between workers later. */
  segmented: boolean;
}

const LAYER_EXTRAS = [
  'attn.q.bias', 'attn.k.bias', 'attn.v.bias', 'attn.qNorm', 'attn.kNorm', 'attn.subNorm', 'attn.o.bias',
  'ffn.gate.bias', 'ffn.up.bias', 'ffn.subNorm', 'ffn.down.bias',
];
/** What the frequencies of rotary embeddings are divided by: [headDim / 2]. */
export const ROPE_DIVISORS = 'rope.divisors';

/** Vectors that only some architectures have: those of LAYER_EXTRAS, in all layers or in none, and ROPE_DIVISORS. */
export type Extras = ReadonlySet<string>;

/** The extras of a model whose vectors are known by name; the first layer speaks for all. */
export function extrasOf(has: (name: string) => boolean): Extras {
  return new Set([...LAYER_EXTRAS.filter(name => has(`layers.0.${name}`)), ...[ROPE_DIVISORS].filter(has)]);
}

/** Everything that follows from a configuration and the formats of its linear layers. Tensors are in file order. */
export interface PackedPlan {
  linears: Record<string, LinearInfo>;
  tensors: Map<string, TensorInfo>;
  dataBytes: number;
}

/** Linear layers and vectors (norms, biases) in the order of a forward pass; a vector is given by its length. */
function* executionOrder(config: ModelConfig, extras: Extras): Generator<LinearShape | { name: string; length: number }> {
  const { dim, hiddenDim, vocabSize } = config;
  const q = config.nHeads * config.headDim, kv = config.nHeadsKv * config.headDim;
  const linear = (name: string, rows: number, cols: number, segmented = false): LinearShape => ({ name, rows, cols, segmented });
  if (extras.has(ROPE_DIVISORS)) yield { name: ROPE_DIVISORS, length: config.headDim / 2 };
  yield linear('embedding', vocabSize, dim);
  for (let i = 0; i < config.nLayers; i++) {
    const layer = `layers.${i}`;
    const extra = (name: string, length: number) => extras.has(name) ? [{ name: `${layer}.${name}`, length }] : [];
    const withBias = (name: string, rows: number, cols: number, segmented = false) => [
      ...extra(`${name}.bias`, rows), linear(`${layer}.${name}`, rows, cols, segmented),
    ];
    yield { name: `${layer}.attn.norm`, length: dim };
    yield* withBias('attn.q', q, dim);
    yield* withBias('attn.k', kv, dim);
    yield* withBias('attn.v', kv, dim);
    yield* extra('attn.qNorm', config.headDim);
    yield* extra('attn.kNorm', config.headDim);
    yield* extra('attn.subNorm', q);
    yield* withBias('attn.o', dim, q, true);
    yield { name: `${layer}.ffn.norm`, length: dim };
    yield* withBias('ffn.gate', hiddenDim, dim);
    yield* withBias('ffn.up', hiddenDim, dim);
    yield* extra('ffn.subNorm', hiddenDim);
    yield* withBias('ffn.down', dim, hiddenDim, true);
  }
  yield { name: 'norm', length: dim };
  if (!config.tiedHead) yield linear('head', vocabSize, dim);
}

/** The linear layers a configuration implies, in file order. */
export function linearShapes(config: ModelConfig): LinearShape[] {
  return [...executionOrder(config, new Set())].filter(item => 'rows' in item);
}

/** The norms, biases and other vectors a configuration implies, name to length. */
export function vectorLengths(config: ModelConfig, extras: Extras): Map<string, number> {
  return new Map([...executionOrder(config, extras)].flatMap(item => 'length' in item ? [[item.name, item.length]] : []));
}

/** Columns that stay together where a matrix is cut: a group, or a block of groups. */
const unitOf = ({ groupSize, coding }: PartFormat): number => BLOCK_PARAM_BYTES[coding] ? BLOCK_COLUMNS : groupSize || 32;

/** Column borders of a linear layer's parts: whole units, from format and number of columns alone. */
export function partBorders(cols: number, format: PartFormat, segmented: boolean): number[] {
  const unit = unitOf(format);
  const units = Math.ceil(cols / unit);
  if (!segmented || units < SEGMENTS) return [0, cols];
  return Array.from({ length: SEGMENTS + 1 }, (_, i) => i === SEGMENTS ? cols : unit * Math.floor(units * i / SEGMENTS));
}

/** Bytes of a tile of 16 rows and `cols` columns. */
export function tileBytes({ layout, planes, groupSize, coding }: PartFormat, cols: number): number {
  const groups = Math.ceil(cols / groupSize), codeBytes = groupSize / 8 * planes * TILE_ROWS;
  switch (layout) {
    case 'f32': return 4 * TILE_ROWS * cols;
    case 'int8': return groupSize === 0 ? 2 * TILE_ROWS * Math.ceil(cols / 2) : TILE_ROWS * groups * (groupSize + VALUE_BYTES[coding]);
    case 'planes': return groups * (codeBytes + TILE_ROWS * (planes + 1) * VALUE_BYTES[coding]);
    case 'ternary': return groups * (codeBytes + TILE_ROWS * VALUE_BYTES[coding]);
    case 'uniform': return roundUp(groups * (codeBytes + GROUP_PARAM_BYTES[coding]) + cols / BLOCK_COLUMNS * BLOCK_PARAM_BYTES[coding], 32);
  }
}

const roundUp = (value: number, unit: number) => Math.ceil(value / unit) * unit;

export function planPacked(config: ModelConfig, extras: Extras, tokenizerBytes: number, formatOf: (linear: LinearShape) => PartFormat): PackedPlan {
  const plan: PackedPlan = { linears: {}, tensors: new Map(), dataBytes: 0 };
  const add = (name: string, dtype: 'F32' | 'F16' | 'U8', bytes: number) => {
    const begin = plan.dataBytes, end = begin + bytes;
    plan.tensors.set(name, { dtype, shape: [bytes / { F32: 4, F16: 2, U8: 1 }[dtype]], begin, end });
    plan.dataBytes = end;
  };
  for (const item of executionOrder(config, extras)) {
    if ('length' in item) {
      add(item.name, 'F32', roundUp(4 * item.length, ALIGN));
      continue;
    }
    const { name, rows, cols, segmented } = item;
    const format = formatOf(item), tiles = Math.ceil(rows / TILE_ROWS);
    const borders = partBorders(cols, format, segmented);
    const parts = borders.slice(1).map((colEnd, i): PartInfo => {
      const { layout, planes, groupSize, coding } = format;
      return { layout, planes, groupSize, coding, colBegin: borders[i]!, colEnd, tensor: `${name}.${i}` };
    });
    const bias = `${name}.bias`;
    plan.linears[name] = { rows, cols, rowScale: `${name}.rowScale`, ...(plan.tensors.has(bias) && { bias }), parts };
    add(`${name}.rowScale`, format.coding === 'i6' ? 'F16' : 'F32', 4 * TILE_ROWS * tiles);
    for (const part of parts) add(part.tensor, 'U8', tiles * tileBytes(part, part.colEnd - part.colBegin));
  }
  add('tokenizer', 'U8', roundUp(tokenizerBytes, ALIGN));
  return plan;
}

/** Whether a safetensors header is that of a packed model. */
export const isPacked = (metadata: Record<string, string>): boolean => metadata.format === 'lutra';

/** Reads and checks a header. Everything that docs/format.md lists is true afterwards; no weight has been read. */
export async function readPackedHeader(source: ByteSource): Promise<PackedHeader> {
  const path = source.name;
  const fail = (field: string, problem: string): never => { throw new BadModelFileError(path, field, problem); };
  const { metadata, tensors, dataOffset } = await readSafetensorsHeader(source);
  if (!isPacked(metadata)) {
    throw new UnsupportedFormatError(path, '__metadata__.format', 'is not "lutra": not a packed model', 'Pack it first: `lutra quantize SOURCE -o OUT`.');
  }
  if (typeof metadata.lutra !== 'string') fail('__metadata__.lutra', 'is missing');
  const header = parseJson(new TextEncoder().encode(metadata.lutra), path, '__metadata__.lutra');
  if (header.version !== FORMAT_VERSION) {
    throw new UnsupportedFormatError(path, 'version', `${shown(header.version)}, this reader knows ${FORMAT_VERSION}`,
      'Update lutra, or pack the model again with this version.');
  }
  if (dataOffset % ALIGN !== 0) fail('header length', `the data begins at ${dataOffset}, not at a multiple of ${ALIGN}`);
  const config = checkConfig(header.config, path);
  // Bounds the work below by the number of tensors that really are there.
  if (config.nLayers > tensors.size) fail('config.nLayers', `${config.nLayers} layers, ${tensors.size} tensors`);
  const { linears, provenance } = header;
  if (!isObject(linears)) return fail('linears', 'is not an object');
  if (!isObject(provenance)) return fail('provenance', 'is not an object');

  const tokenizer = tensors.get('tokenizer');
  if (!tokenizer || tokenizer.end === tokenizer.begin) return fail('tokenizer', 'is missing');
  const plan = planPacked(config, extrasOf(name => tensors.has(name)), tokenizer.end - tokenizer.begin, shape => partFormat(linears[shape.name], path, shape));
  compare('linears', linears, plan.linears);
  compare('tensors', Object.fromEntries(tensors), Object.fromEntries(plan.tensors));
  return { version: FORMAT_VERSION, config, linears: plan.linears, tensors: Object.fromEntries(plan.tensors), dataOffset, dataBytes: plan.dataBytes, chat: checkChat(header.chat, path), provenance };

  /** Names the first difference between what is there and what the configuration implies. */
  function compare(field: string, actual: unknown, expected: unknown): void {
    if (isObject(expected) || Array.isArray(expected)) {
      if (typeof actual !== 'object' || actual === null || Array.isArray(actual) !== Array.isArray(expected)) fail(field, 'is missing');
      const [have, want] = [actual, expected] as Record<string, unknown>[];
      for (const key of Object.keys(want!)) compare(`${field}.${key}`, Object.hasOwn(have!, key) ? have![key] : undefined, want![key]);
      for (const key of Object.keys(have!)) if (!Object.hasOwn(want!, key)) fail(`${field}.${key}`, 'does not belong to this configuration');
    } else if (actual !== expected) {
      fail(field, `${shown(actual)}, but the configuration implies ${shown(expected)}`);
    }
  }
}

/** Which formats there are. Whether there is a kernel for one is the engine's business (cpp/kernels/table.cc). */
const groups = [32, 64, 128], shortGroups = [16, ...groups], none = [0];
const formats: Record<LayoutName, { codings: readonly CodingName[]; planes: readonly number[]; groupSizes: readonly number[] }[]> = {
  f32: [{ codings: ['none'], planes: none, groupSizes: none }],
  int8: [{ codings: ['none'], planes: none, groupSizes: none }, { codings: ['f16'], planes: none, groupSizes: groups }],
  planes: [{ codings: ['f32', 'f16', 'i16'], planes: [1, 2, 3, 4], groupSizes: groups }],
  ternary: [{ codings: ['none', 'f32', 'f16'], planes: [2], groupSizes: groups }],
  uniform: [{ codings: ['f32', 'f16', 'f16mid', 'i6', 'k4', 'k6', 'k8'], planes: [1, 2, 3, 4, 5, 6], groupSizes: shortGroups }],
};

/** The format of a linear layer's first part; `compare` finds the others equal to it or fails. */
function partFormat(linear: unknown, path: string, { name, cols }: LinearShape): PartFormat {
  const part: unknown = isObject(linear) && Array.isArray(linear.parts) ? linear.parts[0] : undefined;
  if (!isObject(part)) throw new BadModelFileError(path, `linears.${name}`, 'is missing or has no parts');
  const { layout, planes, groupSize, coding } = part;
  if (typeof layout !== 'string' || !Object.hasOwn(formats, layout)) {
    throw new UnsupportedFormatError(path, `linears.${name}.parts.0.layout`, `unknown layout ${shown(layout)}`, 'Update lutra, or pack the model again with this version.');
  }
  const known = formats[layout as LayoutName].some(format => format.codings.includes(coding) && format.planes.includes(planes) && format.groupSizes.includes(groupSize));
  if (!known) throw new BadModelFileError(path, `linears.${name}.parts.0`, `layout ${layout} with ${shown({ planes, groupSize, coding })}`);
  if (BLOCK_PARAM_BYTES[coding as CodingName] && cols % BLOCK_COLUMNS !== 0) {
    throw new BadModelFileError(path, `linears.${name}.parts.0`, `coding ${coding} has blocks of ${BLOCK_COLUMNS} columns, which ${cols} columns do not fill`);
  }
  return { layout: layout as LayoutName, planes, groupSize, coding };
}

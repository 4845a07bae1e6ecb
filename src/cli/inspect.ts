/** `lutra inspect`: what a model file holds and needs, without loading it. */
import { Command } from 'commander';
import { chooseVariant, compile } from '../engine/instance.js';
import { layOut } from '../engine/member.js';
import { kvPositionBytes, kvTypeFor } from '../engine/plan.js';
import { whole } from '../engine/slices.js';
import { detect } from '../formats/detect.js';
import { planPacked, readPackedHeader, type PackedPlan, type PartFormat } from '../formats/packed.js';
import type { SourceModel } from '../formats/source.js';
import type { ByteSource, ModelConfig, PackedHeader } from '../formats/types.js';
import { FORMAT_VERSION } from '../generated/layout.js';
import { isTrits, planFor, type Bits } from '../pack/pack.js';
import { whyNotShared } from '../platform/platform.js';
import { DEFAULT_CONTEXT } from '../runtime/options.js';
import { jsonOption } from './options.js';
import { atHeaders } from './remote.js';
import { aligned } from './table.js';
import { bytes, printJson } from './terminal.js';

interface Tensor {
  name: string;
  type: string;
  shape: number[];
  bytes: number;
  /** Of a matrix: what it is when the model runs. */
  becomes?: string;
  /** Of a matrix. */
  bitsPerWeight?: number;
}

/** What the engine takes, as it plans it itself; bytes. JavaScript comes on top. */
export interface Needs {
  weights: number;
  /** What a pass writes. */
  workspace: number;
  kvPerToken: number;
  kvPerSession: number;
  /** Tokens of a session. */
  context: number;
  /** With one session. */
  total: number;
}

interface Report {
  file: string;
  packed: boolean;
  /** Of the file, or of the files that hold weights. */
  bytes: number;
  config: ModelConfig;
  tensors: Tensor[];
  /** Level at which a model that is not packed is loaded when nobody asks for another. */
  level: Bits | null;
  /** Of the linear layers without embedding and head, at that level. */
  bitsPerWeight: number;
  /** Bytes, at that level. */
  memory: Needs;
  provenance: Record<string, unknown>;
}

export function inspectCommand(): Command {
  return new Command('inspect')
    .description('Shows a model\'s configuration, its tensors and the memory it needs; reads no weights.')
    .argument('<model>', 'a packed model, or one that can be packed')
    .option('--tokenizer <file>', 'the tokenizer of a llama2.c checkpoint (default: the one beside it)')
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  lutra inspect stories.lutra.safetensors')
    .action(async (path: string, { tokenizer, json }: { tokenizer?: string; json?: true }) => {
      const report = await atHeaders(path, async location => {
        const found = await detect(location, { ...(tokenizer && { tokenizer }) });
        return 'packed' in found ? describePacked(found.packed) : describeSource(path, found.source);
      });
      if (json) printJson(report);
      else process.stdout.write(render(report));
    });
}

/** What Lutra calls a format. */
function describe({ layout, planes, groupSize, coding }: PartFormat): string {
  const groups = groupSize ? `, g${groupSize}` : '';
  return `${layout === 'planes' || layout === 'uniform' ? `${layout} ${planes} bits` : layout}${groups}${coding === 'none' ? '' : `, ${coding}`}`;
}

/** Bits per weight in the layers: parts, row scales and biases. */
export function bitsOf({ linears, tensors }: Pick<PackedPlan, 'linears' | 'tensors'>): number {
  const layers = Object.entries(linears).filter(([name]) => name.startsWith('layers.'));
  const bytesOf = ([name]: [string, unknown]) => [...tensors].filter(([tensor]) => tensor.startsWith(`${name}.`)).reduce((sum, [, { begin, end }]) => sum + end - begin, 0);
  return 8 * layers.reduce((sum, layer) => sum + bytesOf(layer), 0) / layers.reduce((sum, [, { rows, cols }]) => sum + rows * cols, 0);
}

async function describePacked(source: ByteSource): Promise<Report> {
  try {
    const header = await readPackedHeader(source), { config, linears, tensors, provenance } = header;
    const size = (name: string) => tensors[name]!.end - tensors[name]!.begin;
    const types = new Map(Object.values(linears).flatMap(({ parts }) => parts.map(part => [part.tensor, describe(part)])));
    return {
      file: source.name, packed: true, bytes: source.size, config, level: null,
      tensors: Object.entries(tensors).map(([name, { dtype, shape }]) => ({ name, type: types.get(name) ?? dtype, shape, bytes: size(name) })),
      bitsPerWeight: bitsOf({ linears, tensors: new Map(Object.entries(tensors)) }),
      memory: await needsOf(header),
      provenance,
    };
  } finally {
    await source.close();
  }
}

async function describeSource(file: string, source: SourceModel): Promise<Report> {
  try {
    const level = source.defaultBits ?? 8, { formats, kept, extras } = planFor(source, { bits: level });
    const plan = planPacked(source.config, extras, source.tokenizerJson.length, ({ name }) => formats.get(name)!);
    const matrices = [...source.matrices].map(([name, { encoding, rows, cols, codes, scales, param, stored }]): Tensor => {
      const size = stored?.bytes ?? rows * (codes.length + (scales?.length ?? 0)), format = formats.get(name)!;
      const same = kept.has(name) || format.layout === 'f32' || isTrits({ encoding }) ? 'the same values' : 'rounded';
      return { name, type: stored?.type ?? (param ? `${encoding}, g${param}` : encoding), shape: [rows, cols], bytes: size, bitsPerWeight: 8 * size / (rows * cols), becomes: `${describe(format)}: ${same}` };
    });
    const vectors = [...source.vectors].map(([name, { length }]): Tensor => ({ name, type: 'f32', shape: [length], bytes: 4 * length }));
    return {
      file, packed: false, bytes: source.bytes, config: source.config, level, tensors: [...matrices, ...vectors], bitsPerWeight: bitsOf(plan),
      memory: await needsOf({ version: FORMAT_VERSION, config: source.config, linears: plan.linears, tensors: Object.fromEntries(plan.tensors), dataOffset: 0, dataBytes: plan.dataBytes, provenance: {} }),
      provenance: source.provenance,
    };
  } finally {
    await source.close();
  }
}

export async function needsOf(header: PackedHeader): Promise<Needs> {
  const { contextLength, slidingWindow } = header.config, kvType = kvTypeFor(header), context = Math.min(contextLength, slidingWindow ?? Infinity, DEFAULT_CONTEXT);
  const shared = whyNotShared() === undefined, module = await compile(chooseVariant('auto', shared));
  const { plan, workspaceBytes, maximum } = layOut(module, { name: 'model', header, context, kvType, maxSessions: 1, reference: false, slice: whole }, shared);
  return { weights: plan.weightBytes, workspace: workspaceBytes, kvPerToken: kvPositionBytes(header.config, kvType), kvPerSession: plan.kvBytes, context, total: maximum };
}

function render({ file, packed, bytes: size, config, level, tensors, bitsPerWeight, memory: { weights, workspace, kvPerSession, context, total }, provenance }: Report): string {
  const { architecture, nLayers, dim, hiddenDim, nHeads, nHeadsKv, headDim, vocabSize, contextLength, ropeScaling, slidingWindow } = config;
  const rows = tensors.map(tensor => [tensor.name, tensor.type, `[${tensor.shape.join(', ')}]`, bytes(tensor.bytes),
    tensor.bitsPerWeight === undefined ? '' : `${tensor.bitsPerWeight.toFixed(2)} bits`, tensor.becomes === undefined ? '' : `-> ${tensor.becomes}`]);
  return [
    `${file}: ${packed ? 'packed model' : 'model to be packed'}, ${bytes(size)}`,
    `${architecture}: ${nLayers} layers of ${dim} (hidden ${hiddenDim}), ${nHeads} heads of ${headDim}, ${nHeadsKv} for keys and values, vocabulary ${vocabSize}, trained for ${contextLength} tokens`,
    ...(ropeScaling ? [`positions: ${Object.entries(ropeScaling).map(([key, value]) => key === 'type' ? value : `${key} ${value}`).join(', ')}`] : []),
    ...(slidingWindow === null ? [] : [`sliding window: contexts up to ${slidingWindow} tokens`]),
    `${level === null ? '' : `loaded at level ${level}: `}${bitsPerWeight.toFixed(2)} bits per weight in the linear layers`,
    `memory: ${bytes(total)} with one session: weights ${bytes(weights)}, workspace ${bytes(workspace)}, ${bytes(kvPerSession)} for each session of ${context} tokens`,
    ...Object.entries(provenance).map(([key, value]) => `${key}: ${typeof value === 'string' ? value : JSON.stringify(value)}`),
    '',
    ...aligned(rows, column => column !== 3),
    '',
  ].join('\n');
}

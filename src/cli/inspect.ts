/** `lutra inspect`: what a model file holds and needs, without loading it. */
import { Command } from 'commander';
import { detect } from '../formats/detect.js';
import { readPackedHeader } from '../formats/packed.js';
import type { SourceModel } from '../formats/source.js';
import type { ByteSource, ModelConfig } from '../formats/types.js';
import { jsonOption } from './options.js';
import { atHeaders } from './remote.js';
import { bytes, printJson } from './terminal.js';

interface Tensor { name: string; type: string; shape: number[]; bytes: number }

interface Report {
  file: string;
  packed: boolean;
  /** Of the file, or of the files that hold weights. */
  bytes: number;
  config: ModelConfig;
  tensors: Tensor[];
  /** Of the linear layers without embedding and head; null where the file is not packed. */
  bitsPerWeight: number | null;
  /** Bytes; weights: null where they depend on the level chosen. */
  memory: { weights: number | null; kvPerToken: number; kvPerSession: number; context: number };
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

async function describePacked(source: ByteSource): Promise<Report> {
  try {
    const { config, linears, tensors, dataBytes, provenance } = await readPackedHeader(source);
    const size = (name: string) => tensors[name]!.end - tensors[name]!.begin;
    const types = new Map<string, string>();
    let weights = 0, weightBytes = 0;
    for (const [name, { rows, cols, rowScale, parts }] of Object.entries(linears)) {
      for (const { tensor, layout, planes, groupSize, coding } of parts) {
        types.set(tensor, layout === 'planes' ? `${planes} bit, g${groupSize}, ${coding}` : layout === 'ternary' ? `ternary, g${groupSize}, ${coding}` : layout);
      }
      if (!name.startsWith('layers.')) continue;
      weights += rows * cols;
      weightBytes += parts.reduce((sum, part) => sum + size(part.tensor), size(rowScale));
    }
    return {
      file: source.name, packed: true, bytes: source.size, config,
      tensors: Object.entries(tensors).map(([name, { dtype, shape }]) => ({ name, type: types.get(name) ?? dtype, shape, bytes: size(name) })),
      bitsPerWeight: 8 * weightBytes / weights,
      memory: memory(config, dataBytes - size('tokenizer')),
      provenance,
    };
  } finally {
    await source.close();
  }
}

async function describeSource(file: string, source: SourceModel): Promise<Report> {
  try {
    const matrices = [...source.matrices].map(([name, { encoding, rows, cols, codes, scales }]) => (
      { name, type: encoding, shape: [rows, cols], bytes: rows * (codes.length + (scales?.length ?? 0)) }));
    const vectors = [...source.vectors].map(([name, { length }]) => ({ name, type: 'f32', shape: [length], bytes: 4 * length }));
    return {
      file, packed: false, bytes: source.bytes, config: source.config, tensors: [...matrices, ...vectors], bitsPerWeight: null,
      memory: memory(source.config, null), provenance: source.provenance,
    };
  } finally {
    await source.close();
  }
}

function memory({ nLayers, nHeadsKv, headDim, contextLength, slidingWindow }: ModelConfig, weights: number | null): Report['memory'] {
  const context = Math.min(contextLength, slidingWindow ?? Infinity, 2048);
  const kvPerToken = 2 * 4 * nLayers * nHeadsKv * headDim;
  return { weights, kvPerToken, kvPerSession: kvPerToken * context, context };
}

function render({ file, packed, bytes: size, config, tensors, bitsPerWeight, memory: { weights, kvPerSession, context }, provenance }: Report): string {
  const { architecture, nLayers, dim, hiddenDim, nHeads, nHeadsKv, headDim, vocabSize, contextLength } = config;
  const width = Math.max(...tensors.map(tensor => tensor.name.length));
  return [
    `${file}: ${packed ? 'packed model' : 'model to be packed'}, ${bytes(size)}`,
    `${architecture}: ${nLayers} layers of ${dim} (hidden ${hiddenDim}), ${nHeads} heads of ${headDim}, ${nHeadsKv} for keys and values, vocabulary ${vocabSize}, trained for ${contextLength} tokens`,
    ...(bitsPerWeight === null ? [] : [`${bitsPerWeight.toFixed(2)} bits per weight in the linear layers`]),
    `memory: ${weights === null ? 'weights as they are packed' : `weights ${bytes(weights)}`}, ${bytes(kvPerSession)} for each session of ${context} tokens`,
    ...Object.entries(provenance).map(([key, value]) => `${key}: ${typeof value === 'string' ? value : JSON.stringify(value)}`),
    '',
    ...tensors.map(tensor => `${tensor.name.padEnd(width)}  ${tensor.type.padEnd(18)} ${`[${tensor.shape.join(', ')}]`.padEnd(14)} ${bytes(tensor.bytes).padStart(9)}`),
    '',
  ].join('\n');
}

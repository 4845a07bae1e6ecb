/** `lutra eval`: how well models predict text. */
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { Command, Option } from 'commander';
import { detect } from '../formats/detect.js';
import { readPackedHeader } from '../formats/packed.js';
import type { Model } from '../index.js';
import { unpack } from '../pack/unpack.js';
import { openPacked } from '../runtime/source.js';
import { bitsOf } from './inspect.js';
import { measure, type Divergence, type Measures } from './measure.js';
import { addModelOptions, choice, levelOf, load, wholeNumber, type ModelOptions } from './options.js';
import { writePlot } from './plot.js';
import { aligned } from './table.js';
import { bytes, printJson, say } from './terminal.js';
import { DEFAULT_WINDOW, sequencesOf, type Sequence, type TextOptions } from './texts.js';

interface EvalOptions extends Omit<ModelOptions, 'reference'>, TextOptions {
  activations?: 'f32';
  reference?: string;
  table?: true;
  plot: string;
}

/** A model's line in a table. */
interface Line extends Measures, Partial<Divergence> {
  model: string;
  bytes: number;
  /** Of the linear layers; null where the file is not packed. */
  bitsPerWeight: number | null;
  tokensPerSecond: number;
}

export function evalCommand(): Command {
  const command = new Command('eval')
    .description('Cross-entropy (nats per token) and perplexity of models on a text.')
    .argument('[models...]', 'packed models, or such that can be packed while they are loaded')
    .addOption(new Option('--text <file>', 'one text, as llama-perplexity does it: windows of --ctx tokens, the second half of each scored').conflicts('documents'))
    .option('--documents <file>', 'a JSON array of texts, each scored from its own beginning, with BOS, cut at the context')
    .option('--ctx <n>', `tokens of a window (default: ${DEFAULT_WINDOW}, or what the model was trained for)`, wholeNumber(4))
    .option('--chunks <n>', 'windows, or documents, at most', wholeNumber(1))
    .option('--reference <model>', 'also how far the probabilities are from those of this model: KL divergence, and how often both find the same token the likeliest')
    .option('--table', 'one line a model, with size and speed, and a plot of perplexity against bits per weight')
    .option('--plot <file>', 'where the plot goes: an HTML page that opens offline', 'lutra-eval.html')
    .addOption(choice('--activations <type>', 'compute with the same weights but activations as they are; shows what rounding them costs', ['f32'], text => text))
    .addHelpText('after', '\nExample:\n  lutra eval model.safetensors --text wikitext-2-test.raw --ctx 512 --chunks 40\n'
      + '  lutra eval a.safetensors b.safetensors --reference model.gguf --table --documents texts.json');
  return addModelOptions(command, { reference: false }).action(async (given: string[], options: EvalOptions) => {
    if (given.length > 0 && options.model !== undefined) command.error('error: the model is given twice, as an argument and with -m');
    const models = [...given, ...options.model === undefined ? [] : [options.model]];
    if (models.length === 0) command.error('error: which model? Give a file: lutra eval MODEL');
    if (models.length > 1 && !options.table) command.error('error: several models make a table: add --table');
    if (!options.text && !options.documents) command.error('error: what text? Give --text FILE or --documents FILE.json');
    if (options.table) await compare(models, options);
    else await evaluate(models[0]!, options);
  });
}

async function evaluate(path: string, options: EvalOptions): Promise<void> {
  await using model = await loadFor(path, options);
  const sequences = await sequencesOf(model, options), result = await measured(model, sequences, options);
  if (options.json) return printJson(result);
  const { crossEntropy, perplexity, tokens } = result;
  process.stdout.write(`cross-entropy ${crossEntropy.toFixed(4)} nats/token, perplexity ${perplexity.toFixed(3)}, ${tokens} tokens\n`);
  if (hasDivergence(result)) process.stdout.write(`KL from the reference ${result.klMean.toFixed(4)} nats, 99 % below ${result.kl99.toFixed(3)}; the same likeliest token ${(100 * result.top1Agreement).toFixed(1)} %\n`);
}

async function compare(models: readonly string[], options: EvalOptions): Promise<void> {
  const lines: Line[] = [];
  for (const path of models) {
    await using model = await loadFor(path, options);
    const sequences = await sequencesOf(model, options), result = await measured(model, sequences, options);
    lines.push({ model: basename(path), ...await sizeOf(path), ...result, tokensPerSecond: await speedOf(model, sequences[0]!) });
  }
  const points = lines.flatMap(({ model, bitsPerWeight, perplexity }) => bitsPerWeight === null ? [] : [{ name: model, x: bitsPerWeight, y: perplexity }]);
  const unpacked = lines.find(line => line.bitsPerWeight === null);
  if (points.length > 0) {
    await writePlot(options.plot, {
      title: `Perplexity on ${basename(options.text ?? options.documents!)}`, x: 'bits per weight', y: 'perplexity', points,
      ...(unpacked && { line: { name: unpacked.model, y: unpacked.perplexity } }),
    });
    say(`plot: ${options.plot}`);
  }
  if (options.json) printJson({ models: lines });
  else process.stdout.write(`${table(lines)}\n`);
}

async function measured(model: Model, sequences: readonly Sequence[], { reference, threads, variant }: EvalOptions): Promise<Measures | Measures & Divergence> {
  if (!reference) return measure(model, sequences);
  const isPacked = await detect(reference).then(async found => {
    await ('packed' in found ? found.packed : found.source).close();
    return 'packed' in found;
  });
  const { context } = model.info();
  await using other = await load(reference, { ...(threads && { threads }), ...(variant && { variant }), ...(!isPacked && { weights: 'exact' as const }) }, { context });
  return await measure(model, sequences, other);
}

const hasDivergence = (result: Measures | Line): result is Measures & Divergence => 'klMean' in result;

async function sizeOf(path: string): Promise<Pick<Line, 'bytes' | 'bitsPerWeight'>> {
  const found = await detect(path);
  if ('source' in found) {
    await found.source.close();
    return { bytes: found.source.bytes, bitsPerWeight: null };
  }
  try {
    const { linears, tensors } = await readPackedHeader(found.packed);
    return { bytes: (await stat(path)).size, bitsPerWeight: bitsOf({ linears, tensors: new Map(Object.entries(tensors)) }) };
  } finally {
    await found.packed.close();
  }
}

/** Of generating, after a prompt. */
async function speedOf(model: Model, { ids }: Sequence): Promise<number> {
  const prompt = ids.slice(0, Math.min(16, ids.length)), maxTokens = Math.min(64, model.info().context - prompt.length);
  const { timings } = await model.generate(prompt, { maxTokens, temperature: 0 }).result;
  return timings.decodeTokensPerSecond;
}

function table(lines: readonly Line[]): string {
  const withReference = lines.some(hasDivergence);
  const rows = [
    ['model', 'size', 'bits', 'perplexity', ...withReference ? ['KL', 'KL 99 %', 'same top'] : [], 'tokens/s'],
    ...lines.map(line => [
      line.model, bytes(line.bytes), line.bitsPerWeight?.toFixed(3) ?? '-', line.perplexity.toFixed(3),
      ...hasDivergence(line) ? [line.klMean.toFixed(4), line.kl99.toFixed(3), `${(100 * line.top1Agreement).toFixed(1)} %`] : [],
      line.tokensPerSecond.toFixed(1),
    ]),
  ];
  return aligned(rows).join('\n');
}

async function loadFor(path: string, { reference, ...options }: EvalOptions): Promise<Model> {
  const context = options.ctx ? { context: options.ctx } : {};
  if (!options.activations) return load(path, options, context);
  const { weights: _weights, bits: _bits, requantize: _requantize, group, tokenizer, ...rest } = options, weights = levelOf(options);
  const { source } = await openPacked(path, { ...(weights && { weights }), ...(group && { groupSize: group }), ...(tokenizer && { tokenizer }) });
  try {
    return await load(await unpack(source), rest, context);
  } finally {
    await source.close();
  }
}

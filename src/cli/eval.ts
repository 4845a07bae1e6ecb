/** `lutra eval`: how well a model predicts text. */
import { Command, Option } from 'commander';
import { BadArgumentError } from '../errors.js';
import type { Model } from '../index.js';
import { unpack } from '../pack/unpack.js';
import { openPacked } from '../runtime/source.js';
import { addModelOptions, choice, load, MODEL, modelPath, readText, wholeNumber, type ModelOptions } from './options.js';
import { interrupt, printJson, progressBar } from './terminal.js';

const DEFAULT_WINDOW = 512;

interface EvalOptions extends ModelOptions {
  text?: string;
  documents?: string;
  ctx?: number;
  chunks?: number;
  activations?: 'f32';
}

/** A sequence of tokens, and the first position whose prediction counts. */
interface Sequence { ids: number[]; from: number }

export function evalCommand(): Command {
  const command = new Command('eval')
    .description('Cross-entropy (nats per token) and perplexity of a model on a text.')
    .argument('[model]', MODEL)
    .addOption(new Option('--text <file>', 'one text, as llama-perplexity does it: windows of --ctx tokens, the second half of each scored').conflicts('documents'))
    .option('--documents <file>', 'a JSON array of texts, each scored from its own beginning, with BOS, cut at the context')
    .option('--ctx <n>', `tokens of a window (default: ${DEFAULT_WINDOW}, or what the model was trained for)`, wholeNumber(4))
    .option('--chunks <n>', 'windows, or documents, at most', wholeNumber(1))
    .addOption(choice('--activations <type>', 'compute with the same weights but activations as they are; shows what rounding them costs', ['f32'], text => text))
    .addHelpText('after', '\nExample:\n  lutra eval model.safetensors --text wikitext-2-test.raw --ctx 512 --chunks 40');
  return addModelOptions(command).action(async (argument: string | undefined, options: EvalOptions) => {
    const path = modelPath(command, argument, options);
    if (!options.text && !options.documents) command.error('error: what text? Give --text FILE or --documents FILE.json');
    await using model = await loadFor(path, options);
    const sequences = options.text ? await windows(model, options.text, options) : await documents(model, options.documents!, options);
    const { tokens, crossEntropy } = await measure(model, sequences);
    const perplexity = Math.exp(crossEntropy);
    if (options.json) printJson({ tokens, crossEntropy, perplexity });
    else process.stdout.write(`cross-entropy ${crossEntropy.toFixed(4)} nats/token, perplexity ${perplexity.toFixed(3)}, ${tokens} tokens\n`);
  });
}

async function loadFor(path: string, options: EvalOptions): Promise<Model> {
  const context = options.ctx ? { context: options.ctx } : {};
  if (!options.activations) return load(path, options, context);
  const { weights = options.bits, group, tokenizer, ...rest } = options;
  const { source } = await openPacked(path, { ...(weights && { weights }), ...(group && { groupSize: group }), ...(tokenizer && { tokenizer }) });
  try {
    return await load(await unpack(source), rest, context);
  } finally {
    await source.close();
  }
}

/** The protocol of llama-perplexity: no window sees another one, BOS takes the place of a window's first token if the model adds one. */
async function windows(model: Model, file: string, options: EvalOptions): Promise<Sequence[]> {
  const { config, context } = model.info();
  const size = options.ctx ?? Math.min(DEFAULT_WINDOW, context);
  const ids = await model.tokenize(await readText(file));
  const count = Math.min(Math.floor(ids.length / size), options.chunks ?? Infinity);
  if (count === 0) throw new BadArgumentError('--text', `${file} has ${ids.length} tokens, a window has ${size}`, 'Give a longer text, or a smaller --ctx.');
  return Array.from({ length: count }, (_, i) => {
    const window = ids.slice(i * size, (i + 1) * size);
    if (config.addBos) window[0] = config.bosId!;
    return { ids: window, from: Math.floor(size / 2) };
  });
}

async function documents(model: Model, file: string, options: EvalOptions): Promise<Sequence[]> {
  const { context } = model.info();
  const texts = parse(file, await readText(file)).slice(0, options.chunks);
  return Promise.all(texts.map(async text => ({ ids: (await model.tokenize(text, { addBos: true })).slice(0, context), from: 0 })));
}

function parse(file: string, json: string): string[] {
  const wrong = (problem: string) => new BadArgumentError('--documents', `${file} ${problem}`, 'Give a JSON file that holds an array of strings.');
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw wrong(`is not JSON: ${(error as Error).message}`);
  }
  if (!Array.isArray(value) || value.length === 0 || !value.every(text => typeof text === 'string')) throw wrong('is not an array of strings');
  return value;
}

async function measure(model: Model, sequences: Sequence[]): Promise<{ tokens: number; crossEntropy: number }> {
  const bar = progressBar();
  const signal = interrupt();
  let tokens = 0;
  let sum = 0;
  try {
    for (const [i, { ids, from }] of sequences.entries()) {
      const { logProbabilities } = await model.score(ids, { from, signal });
      for (const value of logProbabilities) sum -= value;
      tokens += logProbabilities.length;
      bar.update(`perplexity ${Math.exp(sum / tokens).toFixed(3)}`, i + 1, sequences.length);
    }
  } finally {
    bar.end();
  }
  if (tokens === 0) throw new BadArgumentError('text', 'holds no token to predict', 'Give a longer text.');
  return { tokens, crossEntropy: sum / tokens };
}

/** Options that several commands have, named as llama.cpp names them where it has them. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError, Option } from 'commander';
import { FileAccessError } from '../errors.js';
import { loadModel, type LoadOptions, type Model, type WeightLevel } from '../index.js';
import { interrupt, progressBar } from './terminal.js';

export interface ModelOptions {
  model?: string;
  ctxSize?: number;
  threads?: number | 'auto';
  weights?: WeightLevel;
  bits?: WeightLevel;
  requantize?: WeightLevel;
  group?: 32 | 64 | 128;
  tokenizer?: string;
  kvType?: 'f32' | 'int8';
  variant?: 'simd' | 'relaxed' | 'auto';
  reference?: true;
  json?: true;
}

export function wholeNumber(least: number): (text: string) => number {
  return text => {
    if (/^-?\d+$/.test(text) && Number(text) >= least) return Number(text);
    throw new InvalidArgumentError(`Not a whole number, at least ${least}.`);
  };
}

export function decimal(text: string): number {
  if (text.trim() !== '' && Number.isFinite(Number(text))) return Number(text);
  throw new InvalidArgumentError('Not a number.');
}

export const GROUPS = ['32', '64', '128'];
export const LEVELS = ['1', '2', '3', '4', '8', 'ternary', 'exact'];
export const level = (text: string): WeightLevel => (/^\d$/.test(text) ? Number(text) : text) as WeightLevel;

/** An option whose value is one of `choices`, turned into what the library calls it. */
export function choice(flags: string, text: string, choices: string[], convert: (choice: string) => unknown): Option {
  return new Option(flags, `${text} (${choices.join(', ')})`).argParser(value => {
    if (!choices.includes(value)) throw new InvalidArgumentError(`Allowed: ${choices.join(', ')}.`);
    return convert(value);
  });
}

export const MODEL = 'a packed model, or one that can be packed while it is loaded: a path, a URL, or hf:ORG/REPO[/FILE]';

export const jsonOption = () => new Option('--json', 'print one JSON object to stdout, everything else to stderr');

/** @param reference whether the command has an option of this name of its own */
export function addModelOptions(command: Command, { reference = true } = {}): Command {
  if (reference) command.option('--reference', 'run the scalar code that defines the arithmetic (slow)');
  return command
    .option('-m, --model <file>', 'the model, instead of the argument')
    .option('-t, --threads <n>', 'threads that compute (default: settled by timing)', text => text === 'auto' ? text : wholeNumber(1)(text))
    .addOption(choice('--weights <level>', 'pack a model that is not packed yet at this level', ['f32', ...LEVELS], level))
    .addOption(choice('--bits <level>', 'the same as --weights', ['f32', ...LEVELS], level).conflicts('weights'))
    .addOption(choice('--requantize <level>', 'the same, for a model that somebody has quantised', LEVELS, level).conflicts(['weights', 'bits']))
    .addOption(choice('--group <n>', 'columns that share a scale, with --weights', GROUPS, Number))
    .option('--tokenizer <file>', 'the tokenizer of a llama2.c checkpoint (default: the one beside it)')
    .addOption(choice('--kv-type <type>', 'how keys and values are kept (default: int8, f32 for small models)', ['f32', 'int8'], text => text))
    .addOption(choice('--variant <name>', 'which build of the kernels runs', ['simd', 'relaxed', 'auto'], text => text))
    .addOption(jsonOption());
}

/** The model that comes with the package. */
export function embeddedModel(): string | undefined {
  const path = fileURLToPath(new URL('../models/stories.lutra.safetensors', import.meta.url));
  return existsSync(path) ? path : undefined;
}

/** The model named by the argument or by `-m`; a usage error where there is none, or there are two. */
export function modelPath(command: Command, argument: string | undefined, options: ModelOptions, fallback?: string): string {
  if (argument !== undefined && options.model !== undefined) command.error('error: the model is given twice, as an argument and with -m');
  return argument ?? options.model ?? fallback ?? command.error(`error: which model? Give a file: lutra ${command.name()} MODEL`);
}

/** What `--weights`, or one of its other names, says. */
export const levelOf = ({ weights, bits, requantize }: ModelOptions): WeightLevel | undefined => weights ?? bits ?? requantize;

/** Loads with a bar on the terminal; Ctrl-C ends it. */
export async function load(source: string | Uint8Array, options: ModelOptions, changes: LoadOptions = {}): Promise<Model> {
  const bar = progressBar(), weights = levelOf(options);
  try {
    return await loadModel(source, {
      ...(options.ctxSize && { context: options.ctxSize }),
      ...(options.threads && { threads: options.threads }),
      ...(weights && { weights }),
      ...(options.group && { groupSize: options.group }),
      ...(options.tokenizer && { tokenizer: options.tokenizer }),
      ...(options.kvType && { kvType: options.kvType }),
      ...(options.variant && { variant: options.variant }),
      ...(options.reference && { reference: true }),
      onProgress: ({ phase, loaded, total }) => bar.update({ download: 'downloading', pack: 'packing', load: 'loading' }[phase], loaded, total),
      signal: interrupt(),
      ...changes,
    });
  } finally {
    bar.end();
  }
}

export async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new FileAccessError(file, (cause as { code?: string }).code === 'ENOENT' ? 'no such file' : (cause as Error).message, 'Check the path.', { cause });
  }
}

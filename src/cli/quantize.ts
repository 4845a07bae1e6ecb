/** `lutra quantize`: a model in another format to a packed file. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { BadArgumentError } from '../errors.js';
import { detect } from '../formats/detect.js';
import type { SourceModel } from '../formats/source.js';
import { pack, type Bits, type PackOptions, type PackStats } from '../pack/pack.js';
import { packedSink } from '../pack/shards.js';
import { balanced } from '../quant/balance.js';
import { quantizeModel, type Method } from '../quant/model.js';
import { choice, GROUPS, jsonOption, LEVELS, wholeNumber } from './options.js';
import { fetched } from './remote.js';
import { bytes, interrupt, printJson, progressBar, say } from './terminal.js';

interface QuantizeOptions {
  output: string;
  bits?: Bits | number;
  size?: number;
  shardSize?: number;
  group?: 32 | 64 | 128;
  method?: Method | 'hlq';
  calibration?: string[];
  calibrationTokens: number;
  resume?: true;
  coding?: PackOptions['coding'];
  headBits?: 4;
  tokenizer?: string;
  threads?: number;
  json?: true;
}

export function quantizeCommand(): Command {
  return new Command('quantize')
    .description('Packs a model into a file that loads as it is; calibrated, 2 bits still read as English.')
    .argument('<source>', 'a GGUF file, a llama2.c checkpoint, or the folder of a Hugging Face model')
    .requiredOption('-o, --output <file>', 'the packed file')
    .addOption(new Option('--bits <level>', `bits per weight (${LEVELS.join(', ')}; calibrated also a mean such as 2.5); exact: the values of the source (default: exact for GGUF, ternary for ternary models, otherwise 4)`).argParser(level))
    .addOption(new Option('--size <size>', 'bits that make the file at most so large, such as 60MB').argParser(size).conflicts('bits'))
    .addOption(new Option('--shard-size <size>', 'make a folder of files that are at most so large, such as 2GB').argParser(size))
    .addOption(choice('--group <n>', 'columns that share a scale (default: 64; method best below 4 bits 32)', GROUPS, Number))
    .addOption(choice('--method <name>', 'how 1 to 4 bits are found (default: best with a calibration, else hlq)', ['rtn', 'hlq', 'elutq', 'gptq', 'best'], text => text))
    .option('--calibration <file>', 'text the model should do well on, a JSON array of texts, or self: what the model says itself; can be repeated', (file: string, files: string[] = []) => [...files, file])
    .option('--calibration-tokens <n>', 'tokens of it, in all', wholeNumber(1), 32768)
    .option('--resume', 'go on after the last layer that an interrupted run has finished')
    .addOption(choice('--coding <name>', 'how the scales of hlq are stored (default: i16)', ['i16', 'f16', 'f32'], text => text))
    .addOption(choice('--head-bits <n>', 'bits of the matrix that makes logits (default: 8, or what the source has): 4 is faster where vocabularies are large, and less exact', ['4'], Number))
    .option('--tokenizer <file>', 'the tokenizer of a llama2.c checkpoint (default: the one beside it)')
    .option('-t, --threads <n>', 'threads (default: one for each core); the file does not depend on it', wholeNumber(1))
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  lutra quantize stories15M.bin -o stories15M.lutra.safetensors --bits 4 --group 64\n'
      + '  lutra quantize model.gguf -o model.lutra.safetensors --bits 2.5 --calibration texts.txt')
    .action(async (path: string, options: QuantizeOptions) => {
      const { bytesIn, bytesOut, bitsPerWeight, bitsPerWeightAt2048 } = await quantize(path, options);
      if (options.json) printJson({ bytesIn, bytesOut, bitsPerWeight, bitsPerWeightAt2048 });
      else process.stdout.write(`${options.output}: ${bytes(bytesIn)} -> ${bytes(bytesOut)}, ${bitsPerWeight.toFixed(2)} bits per weight\n`);
    });
}

/** A named level, or a mean number of bits. */
function level(text: string): Bits | number {
  if (LEVELS.includes(text)) return (/^\d$/.test(text) ? Number(text) : text) as Bits;
  if (/^\d\.\d+$/.test(text) && Number(text) >= 2 && Number(text) <= 4) return Number(text);
  throw new InvalidArgumentError(`Allowed: ${LEVELS.join(', ')}, or a mean from 2 to 4.`);
}

function size(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kMG]?)B?$/i.exec(text);
  if (!match) throw new InvalidArgumentError('Not a size such as 60MB.');
  return Math.floor(Number(match[1]) * { '': 1, k: 1e3, m: 1e6, g: 1e9 }[match[2]!.toLowerCase()]!);
}

async function quantize(path: string, options: QuantizeOptions): Promise<PackStats> {
  const { tokenizer, calibration } = options, method = options.method ?? (calibration ? 'best' : 'hlq');
  const wrong = (option: string, problem: string, hint: string) => { throw new BadArgumentError(option, problem, hint); };
  if (calibration && (method === 'hlq' || method === 'rtn')) wrong('--calibration', `method ${method} looks at no text`, 'Use --method best, gptq or elutq.');
  if (method !== 'hlq' && options.coding) wrong('--coding', `method ${method} has a coding of its own`, 'Leave it out.');
  if (method === 'hlq' && options.resume) wrong('--resume', 'packing without a calibration is never resumed', 'Leave it out.');
  if (method === 'hlq' && (options.size !== undefined || (typeof options.bits === 'number' && !Number.isInteger(options.bits)))) {
    wrong(options.size === undefined ? '--bits' : '--size', 'bits that differ from matrix to matrix need a calibration', 'Give --calibration FILE, or --calibration self.');
  }
  const found = await detect(await fetched(path), { ...(tokenizer && { tokenizer }) });
  if ('packed' in found) {
    await found.packed.close();
    throw new BadArgumentError('source', `${path} is packed already`, 'Give the model it was packed from.');
  }
  const bar = progressBar();
  const onProgress = (phase: string, done: number, total: number) => bar.update(phase, done, total);
  try {
    return method === 'hlq' ? await packPlain(found.source, options, onProgress) : await calibrate(found.source, method, options, onProgress);
  } finally {
    bar.end();
    await found.source.close();
  }
}

async function packPlain(source: SourceModel, { output, shardSize, bits, group, coding, headBits, threads }: QuantizeOptions, onProgress: (phase: string, done: number, total: number) => void): Promise<PackStats> {
  // HLQ looks at the weights alone: their columns may as well be easy ones. Trits are what they are.
  const isHlq = source.defaultBits !== 'ternary' && (bits === undefined ? source.defaultBits === undefined : typeof bits === 'number' && bits <= 4);
  const easier = isHlq ? await balanced(source, (done, total) => onProgress('balancing', done, total), interrupt()) : source;
  return pack(easier, {
    ...(bits && { bits: bits as Bits }),
    ...(group && { groupSize: group }),
    ...(coding && { coding }),
    ...(headBits && { headBits }),
    ...(threads && { threads }),
    onProgress: (done, total) => onProgress('packing', done, total),
    signal: interrupt(),
  }, await packedSink(output, shardSize));
}

async function calibrate(source: SourceModel, method: Method, { output, shardSize, bits, size, group, headBits, calibration = [], calibrationTokens, resume, threads }: QuantizeOptions,
  onProgress: (phase: string, done: number, total: number) => void): Promise<PackStats> {
  if (size === undefined && (bits === undefined || typeof bits !== 'number' || bits > 4)) {
    throw new BadArgumentError('--bits', `method ${method} is for 1 to 4 bits`, 'Give --bits 2, 2.5, 3 or 4, or --size.');
  }
  try {
    return await quantizeModel(source, output, {
      method, calibration, calibrationTokens, resume: resume ?? false,
      ...(size === undefined ? { bits: bits as number } : { size }),
      ...(group && { groupSize: group }),
      ...(headBits && { headBits }),
      ...(threads && { threads }),
      ...(shardSize !== undefined && { shardSize }),
      onProgress,
      signal: interrupt(),
    });
  } catch (error) {
    if (interrupt().aborted) say(`Stopped. If a layer was finished, the same command with --resume goes on from there (${output}.partial).`);
    throw error;
  }
}

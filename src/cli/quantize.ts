/** `lutra quantize`: a model in another format to a packed file. */
import { Command } from 'commander';
import { BadArgumentError } from '../errors.js';
import { detect } from '../formats/detect.js';
import { pack, type PackOptions, type PackStats } from '../pack/pack.js';
import { fileSink } from '../platform/platform.js';
import { choice, GROUPS, jsonOption, level, LEVELS, wholeNumber } from './options.js';
import { bytes, interrupt, printJson, progressBar } from './terminal.js';

interface QuantizeOptions {
  output: string;
  bits?: PackOptions['bits'];
  group?: number;
  coding?: PackOptions['coding'];
  tokenizer?: string;
  threads?: number;
  json?: true;
}

export function quantizeCommand(): Command {
  return new Command('quantize')
    .description('Packs a model into a file that loads as it is.')
    .argument('<source>', 'a GGUF file, a llama2.c checkpoint, or the folder of a Hugging Face model')
    .requiredOption('-o, --output <file>', 'the packed file')
    .addOption(choice('--bits <level>', 'bits per weight; exact: the values of the source (default: exact for GGUF, ternary for ternary models, otherwise 4)', LEVELS, level))
    .addOption(choice('--group <n>', 'columns that share a scale (default: 64)', GROUPS, Number))
    .addOption(choice('--coding <name>', 'how scales are stored (default: i16)', ['i16', 'f16', 'f32'], text => text))
    .option('--tokenizer <file>', 'the tokenizer of a llama2.c checkpoint (default: the one beside it)')
    .option('-t, --threads <n>', 'workers (default: one for each core)', wholeNumber(1))
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  lutra quantize stories15M.bin -o stories15M.lutra.safetensors --bits 4 --group 64')
    .action(async (path: string, options: QuantizeOptions) => {
      const stats = await quantize(path, options);
      const { bytesIn, bytesOut, bitsPerWeight } = stats;
      if (options.json) printJson({ bytesIn, bytesOut, bitsPerWeight });
      else process.stdout.write(`${options.output}: ${bytes(bytesIn)} -> ${bytes(bytesOut)}, ${bitsPerWeight.toFixed(2)} bits per weight\n`);
    });
}

async function quantize(path: string, { output, bits, group, coding, tokenizer, threads }: QuantizeOptions): Promise<PackStats> {
  const found = await detect(path, { ...(tokenizer && { tokenizer }) });
  if ('packed' in found) {
    await found.packed.close();
    throw new BadArgumentError('source', `${path} is packed already`, 'Give the model it was packed from.');
  }
  const bar = progressBar();
  try {
    return await pack(found.source, {
      ...(bits && { bits }),
      ...(group && { groupSize: group }),
      ...(coding && { coding }),
      ...(threads && { threads }),
      onProgress: (done, total) => bar.update('packing', done, total),
      signal: interrupt(),
    }, await fileSink(output));
  } finally {
    bar.end();
    await found.source.close();
  }
}

/** `lutra export`: a packed model to the folder that ELUTQ's runtime reads. */
import { Command } from 'commander';
import { openFile } from '../platform/platform.js';
import { exportElutq, folderSink, type ExportStats } from '../pack/export-elutq.js';
import { jsonOption } from './options.js';
import { bytes, interrupt, printJson, progressBar } from './terminal.js';

export function exportCommand(): Command {
  return new Command('export')
    .description('Writes a packed model as a folder of ELUTQ.')
    .argument('<model>', 'a packed file of 1 to 4 bits whose scales are halves (quantize --coding f16)')
    .requiredOption('-o, --output <folder>', 'the folder, which must not exist')
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  lutra quantize model-folder -o model.lutra.safetensors --bits 2 --coding f16\n  lutra export model.lutra.safetensors -o model-elutq')
    .action(async (path: string, options: { output: string; json?: true }) => {
      const stats = await run(path, options.output);
      if (options.json) return printJson(stats);
      process.stdout.write(`${options.output}: ${bytes(stats.bytesOut)}\n`);
      if (stats.rounded > 0) process.stderr.write(`${stats.rounded} values of embedding, head and norms were rounded to half precision\n`);
    });
}

async function run(path: string, output: string): Promise<ExportStats> {
  const source = await openFile(path), bar = progressBar();
  try {
    return await exportElutq(source, { onProgress: (done, total) => bar.update('exporting', done, total), signal: interrupt() }, await folderSink(output));
  } finally {
    bar.end();
    await source.close();
  }
}

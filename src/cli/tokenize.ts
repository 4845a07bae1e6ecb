/** `lutra tokenize`: the tokens of a text. */
import { Command, Option } from 'commander';
import { openTokenizer } from '../formats/vocabulary.js';
import { jsonOption, readText } from './options.js';
import { atHeaders } from './remote.js';
import { printJson } from './terminal.js';

interface TokenizeOptions {
  prompt?: string;
  file?: string;
  special?: true;
  bos: boolean;
  tokenizer?: string;
  json?: true;
}

export function tokenizeCommand(): Command {
  const command = new Command('tokenize');
  return command
    .description('Shows the tokens of a text.')
    .argument('<model>', 'a packed model, one that can be packed, or a GGUF file with a vocabulary only')
    .addOption(new Option('-p, --prompt <text>', 'the text').conflicts('file'))
    .option('-f, --file <file>', 'a file that holds the text')
    .option('--special', 'special tokens that the text spells become special tokens')
    .option('--no-bos', 'leave out the token that the model wants at the beginning')
    .option('--tokenizer <file>', 'the tokenizer of a llama2.c checkpoint (default: the one beside it)')
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  lutra tokenize model.gguf -p "<|im_start|>Hello" --special')
    .action(async (path: string, { prompt, file, special, bos, tokenizer, json }: TokenizeOptions) => {
      if (prompt === undefined && file === undefined) command.error('error: what text? Give -p TEXT or -f FILE');
      const model = await atHeaders(path, location => openTokenizer(location, { ...(tokenizer && { tokenizer }) }));
      const ids = model.encode(prompt ?? await readText(file!), { ...(special && { special }), ...(!bos && { addBos: false }) });
      const pieces = model.pieces(ids);
      if (json) return printJson({ ids, pieces });
      const width = Math.max(...ids.map(id => String(id).length));
      process.stdout.write(ids.map((id, i) => `${String(id).padStart(width)}  ${JSON.stringify(pieces[i])}\n`).join(''));
    });
}

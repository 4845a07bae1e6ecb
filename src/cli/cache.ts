/** `lutra cache`: what was downloaded. */
import { Command } from 'commander';
import { cacheFolder, FolderStore } from '../download/folder-store.js';
import { jsonOption } from './options.js';
import { bytes, printJson, say } from './terminal.js';

export function cacheCommand(): Command {
  return new Command('cache')
    .description('Lists downloaded models and what was packed from them, or removes them.')
    .argument('[action]', 'clear: remove', (action: string) => action)
    .argument('[word]', 'only what has this in its name')
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  lutra cache clear SmolLM2')
    .action(async (action: string | undefined, word = '', { json }: { json?: true }, command: Command) => {
      if (action !== undefined && action !== 'clear') command.error(`error: ${action} is not known: lutra cache, or lutra cache clear`);
      const store = new FolderStore(cacheFolder()), entries = (await store.list()).filter(({ name }) => name.includes(word));
      if (action) for (const { name } of entries) await store.remove(name);
      if (json) return printJson({ folder: store.folder, removed: Boolean(action), entries });
      for (const entry of entries) process.stdout.write(`${bytes(entry.bytes).padStart(9)}  ${entry.name}\n`);
      const total = bytes(entries.reduce((sum, entry) => sum + entry.bytes, 0));
      say(`${total} ${action ? 'removed from' : 'in'} ${store.folder}`);
    });
}

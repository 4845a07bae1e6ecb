/** `npm start [-- words of a prompt, or options of lutra run]`: sets up what is missing, then runs the embedded model. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { build } from './build.mjs';
import { BuildError, dist, ifMain, root, say } from './util.mjs';

const model = join(root, 'models', 'stories.lutra.safetensors');
const opening = 'Once upon a time';
/** Words and commas ask for a story with these words: the model was trained on stories that begin with such a line. */
const promptOf = text => /^\s*[\w-]+(\s*,\s*[\w-]+)+\s*$/.test(text) ? `Words: ${text.trim().split(/\s*,\s*/).join(', ')}\n` : text || opening;

await ifMain(import.meta, async args => {
  await build();
  if (!existsSync(model)) throw new BuildError(`The embedded model is missing: ${model}. Restore it with "git checkout models".`);
  const words = args.findIndex(arg => arg.startsWith('-'));
  const given = (words < 0 ? args : args.slice(0, words)).join(' ');
  const options = words < 0 ? [] : args.slice(words);
  const hasPrompt = options.some(option => /^(-p|--prompt)(=|$)/.test(option));
  const child = spawn(process.execPath, [join(dist, 'cli.js'), 'run', model, ...(hasPrompt ? [] : ['-p', promptOf(given)]), ...options], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  process.exitCode = await new Promise(resolve => child.on('close', (code, signal) => resolve(signal ? 1 : code)));
  if (process.exitCode === 0) say('Three words that the story shall use: npm start -- "fox, bell, kind"');
});

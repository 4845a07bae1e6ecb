/** `npm run bench [-- options]`: builds, then runs bench/main.ts with them, under the Node that `--node` names. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { build } from './build.mjs';
import { bundleForNode, copyAssets } from './test.mjs';
import { nodeBinary } from './runtimes.mjs';
import { BuildError, ifMain, root } from './util.mjs';

await ifMain(import.meta, async args => {
  const entry = join(root, 'bench', 'main.ts');
  if (!existsSync(entry)) throw new BuildError('bench/main.ts is not there.');
  await build();
  await bundleForNode({ bench: entry, 'bench-native': join(root, 'bench', 'peers', 'native-process.ts') });
  await copyAssets();
  const at = args.indexOf('--node'), [, major] = at < 0 ? [] : args.splice(at, 2);
  const node = major ? await nodeBinary(Number(major)) : process.execPath;
  const child = spawn(node, ['--enable-source-maps', join(root, 'dist-tests', 'bench.js'), ...args], { stdio: 'inherit' });
  process.on('SIGINT', () => {}); // the child's to answer
  process.exitCode = await new Promise(resolve => child.on('close', (code, signal) => resolve(signal ? 1 : code)));
});

/** `npm run bench [-- options]`: builds, then runs bench/main.ts with them. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { build } from './build.mjs';
import { bundleForNode, copyAssets } from './test.mjs';
import { BuildError, ifMain, root } from './util.mjs';

await ifMain(import.meta, async args => {
  const entry = join(root, 'bench', 'main.ts');
  if (!existsSync(entry)) throw new BuildError('bench/main.ts is not there.');
  await build();
  await bundleForNode({ bench: entry });
  await copyAssets();
  const child = spawn(process.execPath, ['--enable-source-maps', join(root, 'dist-tests', 'bench.js'), ...args], { stdio: 'inherit' });
  process.exitCode = await new Promise(resolve => child.on('close', (code, signal) => resolve(signal ? 1 : code)));
});

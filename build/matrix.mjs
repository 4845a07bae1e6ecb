/** `npm run matrix [-- options]`: builds, then runs tests/matrix/main.ts with them. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { build } from './build.mjs';
import { bundleForNode, copyAssets } from './test.mjs';
import { ifMain, root } from './util.mjs';

await ifMain(import.meta, async args => {
  await build();
  await bundleForNode({ matrix: join(root, 'tests', 'matrix', 'main.ts') });
  await copyAssets();
  const child = spawn(process.execPath, ['--enable-source-maps', join(root, 'dist-tests', 'matrix.js'), ...args], { stdio: 'inherit' });
  process.exitCode = await new Promise(resolve => child.on('close', (code, signal) => resolve(signal ? 1 : code)));
});

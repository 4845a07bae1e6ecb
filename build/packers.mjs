/** assembly/index.ts -> dist/wasm/packers.wasm, by AssemblyScript. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { generate } from './generated.mjs';
import { dist, files, ifMain, root, run, say, step, withBuildLock } from './util.mjs';
import { checkWasm } from './wasm-check.mjs';

const entry = join(root, 'assembly', 'index.ts');
const asc = join(root, 'node_modules', 'assemblyscript', 'bin', 'asc.js');
const version = () => JSON.parse(readFileSync(join(root, 'node_modules', 'assemblyscript', 'package.json'), 'utf8')).version;

// Packers are pure: the stub runtime never allocates, the caller gives memory and addresses, and nothing is imported.
const flags = ['--runtime', 'stub', '--optimizeLevel', '3', '--shrinkLevel', '0', '--converge', '--enable', 'simd',
  '--importMemory', '--noExportMemory', '--use', 'abort='];

export async function buildPackers({ out = join(dist, 'wasm', 'packers.wasm'), force = false } = {}) {
  if (!existsSync(entry)) return say('  packers: assembly/index.ts is not there yet, skipped');
  const inputs = { texts: [out, version(), ...flags], paths: files(join(root, 'assembly'), /\.ts$/) };
  await step(out === join(dist, 'wasm', 'packers.wasm') ? 'packers' : `packers ${out}`, inputs, [out], async () => {
    mkdirSync(dirname(out), { recursive: true });
    const temporary = `${out}.${process.pid}.tmp`;
    try {
      await run(process.execPath, [asc, 'assembly/index.ts', ...flags, '-o', temporary]);
      await checkWasm(temporary, 'packers.wasm');
      const bytes = readFileSync(temporary);
      renameSync(temporary, out);
      return `${bytes.length} bytes, ${gzipSync(bytes, { level: 9 }).length} gzipped`;
    } finally {
      rmSync(temporary, { force: true });
    }
  }, { force });
}

await ifMain(import.meta, () => withBuildLock(async () => {
  await generate();
  await buildPackers();
}));

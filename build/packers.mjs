/** assembly/index.ts -> dist/wasm/packers.wasm, by AssemblyScript. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { generate } from './generated.mjs';
import { BuildError, dist, files, ifMain, root, run, step, withBuildLock } from './util.mjs';
import { checkWasm } from './wasm-check.mjs';

const entry = join(root, 'assembly', 'index.ts');
const asc = join(root, 'node_modules', 'assemblyscript', 'bin', 'asc.js');
const version = () => JSON.parse(readFileSync(join(root, 'node_modules', 'assemblyscript', 'package.json'), 'utf8')).version;

// Packers are pure: the stub runtime never allocates, the caller gives memory and addresses, and nothing is imported.
const flags = ['--runtime', 'stub', '--optimizeLevel', '3', '--shrinkLevel', '0', '--enable', 'simd',
  '--importMemory', '--noExportMemory', '--use', 'abort='];

const published = join(dist, 'wasm', 'packers.wasm');

export async function buildPackers({ out = published, force = false } = {}) {
  if (!existsSync(entry)) throw new BuildError('assembly/index.ts is missing.');
  // Elsewhere than in dist/ nothing is remembered.
  if (out !== published) return compile(out);
  const inputs = { texts: [version(), ...flags], paths: files(join(root, 'assembly'), /\.ts$/) };
  await step('packers', inputs, [out], () => compile(out), { force });
}

async function compile(out) {
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
}

await ifMain(import.meta, () => withBuildLock(async () => {
  await generate();
  await buildPackers();
}));

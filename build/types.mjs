/** src/index.ts -> dist/types/, by the TypeScript compiler. */
import { readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cache, dist, files, ifMain, root, run, step, withBuildLock } from './util.mjs';
import { generate } from './generated.mjs';

const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
const version = () => JSON.parse(readFileSync(join(root, 'node_modules', 'typescript', 'package.json'), 'utf8')).version;

export async function buildTypes({ force = false } = {}) {
  const inputs = { texts: [version()], paths: [...files(join(root, 'src'), /\.ts$/), join(root, 'tsconfig.json'), join(root, 'build', 'tsconfig.types.json')] };
  await step('types', inputs, [join(dist, 'types', 'index.d.ts')], async () => {
    const fresh = join(cache, 'types');
    rmSync(fresh, { recursive: true, force: true });
    await run(process.execPath, [tsc, '-p', 'build/tsconfig.types.json', '--outDir', fresh]);
    rmSync(join(dist, 'types'), { recursive: true, force: true });
    renameSync(fresh, join(dist, 'types'));
  }, { force });
}

/** Checks the types of everything: sources, tests, benchmarks. */
export async function checkTypes() {
  await run(process.execPath, [tsc, '-p', 'tsconfig.json', '--pretty', String(Boolean(process.stderr.isTTY))], { live: true });
}

await ifMain(import.meta, () => withBuildLock(async () => {
  await generate();
  await buildTypes();
}));

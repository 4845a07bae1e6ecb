/**
 * `npm run build`: everything that is published, into dist/. Steps whose inputs did not change are left out.
 *
 *   node build/build.mjs [--force]
 */
import { ensureDependencies } from './setup.mjs';
import { BuildError, ifMain, say, withBuildLock } from './util.mjs';

export async function build({ force = false } = {}) {
  await ensureDependencies();
  // Only now: these need the dependencies.
  const [{ generate }, { buildWasm }, { buildPackers }, { buildTypes }, { buildBundles }] = await Promise.all(
    ['generated', 'wasm', 'packers', 'types', 'bundle'].map(name => import(`./${name}.mjs`)));
  say('building dist/');
  const start = performance.now();
  const failed = [];
  await withBuildLock(async () => {
    await generate();
    // One part that does not compile hides no mistake of another.
    for (const part of [buildWasm, buildPackers, buildTypes, buildBundles]) {
      await part({ force }).catch(error => { failed.push(error); });
    }
  });
  if (failed.length > 0) throw new BuildError(failed.map(error => error instanceof BuildError ? error.message : error.stack).join('\n\n'));
  say(`built in ${((performance.now() - start) / 1000).toFixed(1)} s`);
}

await ifMain(import.meta, args => build({ force: args.includes('--force') }));

/** `npm run check`: the types of sources, tests and benchmarks. */
import { ifMain, say } from './util.mjs';
import { ensureDependencies } from './setup.mjs';

await ifMain(import.meta, async () => {
  await ensureDependencies();
  const { generate } = await import('./generated.mjs');
  const { checkTypes } = await import('./types.mjs');
  await generate();
  await checkTypes();
  say('types: no errors');
});

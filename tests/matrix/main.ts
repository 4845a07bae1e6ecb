/**
 * `npm run matrix [-- --update] [-- WORD…]`: the golden answers in every runtime whose name contains a word, as a table.
 * `--update` makes the golden file anew.
 */
import { matrixModels } from './models.js';
import { goldenOf, places, runPlace, updateGolden, verdict, waysOf } from './matrix.js';

const args = process.argv.slice(2), words = args.filter(arg => !arg.startsWith('--'));
const start = performance.now();
const { models, missing, remove } = await matrixModels();
const trouble: string[] = [], absent = [...missing];
try {
  if (args.includes('--update')) await updateGolden(models, line => console.log(line));
  const columns = ['simd 1', 'simd 2', 'simd 4', 'relaxed 1', 'relaxed 2', 'relaxed 4'];
  console.log(`\n${'threads:'.padEnd(38)}${columns.map(name => name.padEnd(11)).join('')}seconds`);
  for (const model of models) {
    const golden = goldenOf(model);
    for (const place of places.filter(({ name }) => words.length === 0 || words.some(word => name.toLowerCase().includes(word.toLowerCase())))) {
      const begin = performance.now(), label = `${model.name}: ${place.name}`;
      const result = await runPlace(place, model).catch((error: Error) => ({ error }));
      if ('missing' in result) absent.push(`${label}: ${result.missing}`);
      if ('error' in result) trouble.push(`${label}: ${result.error.message}`);
      const cells = new Map<string, string>();
      for (const run of 'runs' in result ? result.runs : []) {
        const problem = verdict(run, golden), way = `${run.way.variant} ${run.way.threads}`;
        cells.set(way, problem ? 'FAIL' : 'ok');
        if (problem) trouble.push(`${label}, ${way}: ${problem}`);
      }
      const possible = new Set(waysOf(place).map(({ variant, threads }) => `${variant} ${threads}`));
      const row = columns.map(way => (cells.get(way) ?? (!possible.has(way) ? '-' : 'missing' in result ? 'not here' : 'error' in result ? 'FAIL' : 'not run')).padEnd(11));
      console.log(`${label.padEnd(38)}${row.join('')}${((performance.now() - begin) / 1000).toFixed(1).padStart(7)}`);
    }
  }
} finally {
  remove();
}
console.log('\n-: this runtime has no relaxed SIMD. Threads without shared memory are workers with memories of their own.');
for (const line of absent) console.log(`NOT RUN ${line}`);
for (const line of trouble) console.log(`FAILED ${line}`);
console.log(`${((performance.now() - start) / 1000).toFixed(0)} s`);
process.exitCode = trouble.length > 0 ? 1 : 0;

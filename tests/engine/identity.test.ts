/** One arithmetic: the same ids, logits, keys and values in every build, with any number of threads, in every version of Node. */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { lutra } from '../cli/lutra.js';
import { repoRoot, sharedDir } from '../helpers/paths.js';
import { majors, nodeBinary } from '../helpers/runtimes.js';
import { skip } from '../helpers/skip.js';
import { runMatrix } from './matrix.js';
import { everyFormat } from './models.js';

const test = suite('identity');

/** Real models at 2 bits, and what npm start runs. */
async function realModels(folder: string): Promise<string[]> {
  const paths: string[] = [], shared = sharedDir(), own = join(repoRoot, 'models');
  if (existsSync(own)) paths.push(...readdirSync(own).filter(name => name.endsWith('.safetensors')).map(name => join(own, name)));
  for (const [name, file] of shared ? [['stories260K', 'stories260K.bin'], ['stories3M', 'stories3M-q80.bin']] as const : []) {
    const packed = join(folder, `${name}.safetensors`);
    const { code, stderr } = await lutra(['quantize', join(shared!, 'models', name, file), '-o', packed, '--bits', '2', '--group', '64']);
    assert.is(code, 0, stderr);
    paths.push(packed);
  }
  return paths;
}

/** The others are compared with what this one gives. */
const withReference = (major: number) => major === majors[0];

/** Outcomes by version of Node. */
const outcomes = new Map<number, Record<string, string>>();
const folder = mkdtempSync(join(tmpdir(), 'lutra-'));
let paths: string[] = [];
test.before(async () => { paths = await realModels(folder); });
test.after(() => rmSync(folder, { recursive: true }));

for (const major of majors) {
  test(`Node ${major}: variants, threads, kernels${withReference(major) ? ' and reference' : ''} agree`, async () => {
    const { stdout } = await promisify(execFile)(await nodeBinary(major), [fileURLToPath(import.meta.url), withReference(major) ? '--reference' : '--kernels', ...paths], { timeout: 250_000 });
    const { version, results } = JSON.parse(stdout) as { version: string; results: Record<string, string> };
    assert.match(version, new RegExp(`^v${major}\\.`));
    outcomes.set(major, results);
  });
}

test('all versions of Node agree', () => {
  assert.is(outcomes.size, majors.length);
  const [first, ...others] = outcomes.values();
  for (const other of others) assert.equal(other, first);
  assert.is(Object.keys(first!).length, [...everyFormat()].length + paths.length);
  assert.is(new Set(Object.values(first!)).size, Object.keys(first!).length, 'two models do the same');
});

// What is printed in the other versions of Node is read as JSON.
const [, , mode, ...models] = process.argv;
if (mode) console.log(JSON.stringify({ version: process.version, results: await runMatrix(models, mode === '--reference') }));
else {
  if (!sharedDir()) skip(test, 'real models in the matrix', 'LUTRA_SHARED is not there');
  test.run();
}

/**
 * `npm test [-- WORD…]`: builds, checks types, then runs tests/**\/*.test.ts whose name contains one of the words.
 *
 *   --no-build   with what is in dist/ now        --no-check   without the type check
 *
 * Every file is bundled into dist-tests/ and runs in its own process, two at a time; a file whose first line is
 * `// serial` runs alone, and may ask for more time: `// serial, 900 s`. The last line is always "N passed, N failed, N skipped". A file that crashes, ends without a
 * summary, takes more than its time or holds no test counts as one failure; so does a failed build or type check.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { build } from './build.mjs';
import { ensureDependencies } from './setup.mjs';
import { BuildError, dist, files, ifMain, inParallel, root, say, shown } from './util.mjs';

const LIMIT_S = Number(process.env.LUTRA_TEST_LIMIT ?? 300);
const out = join(root, 'dist-tests');
const total = { passed: 0, failed: 0, skipped: 0 };

/** tests/formats/llama2c.test.ts -> formats.llama2c.test */
const flat = path => shown(path).replace(/^tests\//, '').replaceAll('/', '.').replace(/\.ts$/, '');

/** Bundles TypeScript that runs inside the checkout: packages and this folder's scripts stay outside. */
export async function bundleForNode(entryPoints) {
  const [esbuild, { common, explain, writeIfChanged }] = await Promise.all([import('esbuild'), import('./bundle.mjs')]);
  const scripts = {
    name: 'build-scripts',
    setup: ({ onResolve }) => onResolve({ filter: /\/build\/[\w-]+\.mjs$/ }, ({ path }) => ({ path: `../build/${path.split('/').pop()}`, external: true })),
  };
  const result = await esbuild.build({ ...common, entryPoints, outdir: out, platform: 'node', packages: 'external', sourcemap: 'inline',
    sourcesContent: false, plugins: [scripts] }).catch(explain);
  for (const file of result.outputFiles) writeIfChanged(file.path, file.contents);
}

/** Code bundled there looks for its workers, their parts and wasm files beside itself. */
export async function copyAssets() {
  const { writeIfChanged } = await import('./bundle.mjs');
  for (const path of [...files(join(dist, 'wasm'), /\.wasm$/), ...files(dist, /worker(-\w+)?\.js$/)]) {
    writeIfChanged(join(out, relative(dist, path)), readFileSync(path));
  }
}

async function main(args) {
  const words = args.filter(arg => !arg.startsWith('--'));
  await ensureDependencies();
  if (!args.includes('--no-build')) await attempt('the build', build);
  if (!args.includes('--no-check')) {
    say('checking types');
    const [{ generate }, { checkTypes }] = await Promise.all([import('./generated.mjs'), import('./types.mjs')]);
    await attempt('the type check', async () => { await generate(); await checkTypes(); });
  }

  const chosen = files(join(root, 'tests'), /\.test\.ts$/).filter(path => words.length === 0 || words.some(word => shown(path).includes(word)));
  if (chosen.length === 0) throw new BuildError(`No test file's name contains ${words.join(' or ')}.`);
  await copyAssets();
  const tests = [];
  await inParallel(chosen.map(path => async () => {
    try {
      await bundleForNode({ [flat(path)]: path });
      const [first, seconds] = readFileSync(path, 'utf8').match(/^\/\/ serial\b(?:, (\d+) s)?/) ?? [];
      tests.push({ path, file: join(out, `${flat(path)}.js`), serial: first !== undefined, limit: Number(seconds ?? LIMIT_S) });
    } catch (error) {
      failure(path, error instanceof BuildError ? error.message : error.stack);
    }
  }));
  tests.sort((a, b) => a.file < b.file ? -1 : 1);
  if (tests.some(test => readFileSync(test.file, 'utf8').includes('build/runtimes.mjs'))) {
    // Before the tests' time begins to count. What cannot be had is the tests' to say.
    const { servers, browsers, runtime } = await import('./runtimes.mjs');
    for (const name of [...servers, ...browsers]) {
      const { missing } = await runtime(name);
      if (missing) say(`  ${name}: ${missing}`);
    }
  }
  say(`running ${tests.length} test files`);
  await inParallel(tests.filter(test => !test.serial).map(test => () => runFile(test)), 2);
  await inParallel(tests.filter(test => test.serial).map(test => () => runFile(test)), 1);
}

async function attempt(name, work) {
  try {
    await work();
  } catch (error) {
    total.failed++;
    say(`${name} failed\n${error instanceof BuildError ? error.message : error.stack}`);
  }
}

/** The numbers are those of uvu's summary, the last thing that a test file prints. */
async function runFile({ path, file, limit }) {
  const start = performance.now();
  const { output, code, late } = await execute(file, limit);
  const summaries = [...output.matchAll(/^ {2}Total: +(\d+)\n {2}Passed: +(\d+)\n {2}Skipped: +(\d+)$/gm)];
  const [all, passed, skipped] = summaries.length > 0 ? summaries.at(-1).slice(1).map(Number) : [0, 0, 0];
  const seconds = `${((performance.now() - start) / 1000).toFixed(1)} s`;
  total.passed += passed;
  total.skipped += skipped;
  const failed = all - passed;
  const trouble = late ? `took more than ${limit} s, or did not end` : summaries.length === 0 ? `ended without a summary (code ${code})`
    : all + skipped === 0 ? 'holds no test' : code !== 0 && failed === 0 ? `ended with code ${code}` : '';
  if (failed > 0 || trouble) {
    failure(path, output, trouble || `${failed} of ${all} failed, ${seconds}`, Math.max(failed, 1));
  } else {
    say(`ok    ${shown(path)}  ${passed} passed${skipped ? `, ${skipped} skipped` : ''}, ${seconds}`);
    for (const [line] of output.matchAll(/^(SKIPPED|RETRIED) .*$/gm)) say(`      ${line}`);
  }
}

function failure(path, output, what = 'does not compile', count = 1) {
  total.failed += count;
  say(`FAIL  ${shown(path)}  ${what}\n${output.trimEnd()}\n`);
}

function execute(file, limit) {
  return new Promise(resolve => {
    const child = spawn(process.execPath, ['--enable-source-maps', file], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, FORCE_COLOR: '0', NO_COLOR: '1' } });
    let output = '', late = false;
    const timer = setTimeout(() => { late = true; child.kill('SIGTERM'); setTimeout(() => child.kill('SIGKILL'), 5000).unref(); }, limit * 1000);
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', text => { output += text; });
    child.on('error', error => { output += error.stack; });
    child.on('close', (code, signal) => { clearTimeout(timer); resolve({ output, code: signal ?? code, late }); });
  });
}

await ifMain(import.meta, async args => {
  try {
    await main(args);
  } catch (error) {
    total.failed++;
    say(error instanceof BuildError ? error.message : error);
  }
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  process.exitCode = total.failed > 0 ? 1 : 0;
});

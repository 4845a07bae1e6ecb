/**
 * cpp/ -> dist/wasm/lutra-{simd,relaxed}{,-shared}.wasm, the engine, and lutra-quantize.wasm, the quantiser
 *
 *   node build/wasm.mjs [--only simd[,relaxed-shared…]] [--out FOLDER] [--names]
 *
 * Every .cc below cpp/ but cpp/quant/ goes into every variant of the engine. An object is compiled again when its source, a header it read, the flags
 * or the compiler changed. `--names` keeps function names, for looking at what the compiler made. No wasm-opt: it made
 * these modules neither smaller nor faster, and its inlining undoes what cpp/parallel/crew.cc keeps apart on purpose.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { generate } from './generated.mjs';
import { toolchain } from './toolchain.mjs';
import { BuildError, cache, dist, files, hashOf, ifMain, inParallel, root, run, say, shown, step, withBuildLock, writeWhole } from './util.mjs';
import { checkWasm } from './wasm-check.mjs';

const STACK_BYTES = JSON.parse(readFileSync(join(root, 'cpp', 'layout.json'), 'utf8')).constants.STACK_BYTES;

const sharedFlags = ['-matomics', '-DLUTRA_SHARED=1'];
/** Compiler flags by variant. */
export const variants = {
  'simd': [],
  'simd-shared': sharedFlags,
  'relaxed': ['-mrelaxed-simd', '-DLUTRA_RELAXED=1'],
  'relaxed-shared': ['-mrelaxed-simd', '-DLUTRA_RELAXED=1', ...sharedFlags],
  'quantize': sharedFlags,
};

const compileFlags = [
  '--target=wasm32-unknown-emscripten', '-O3', '-std=c++20',
  // One rounding an operation, everywhere: no contraction, and never -ffast-math.
  '-ffp-contract=off', '-fno-exceptions', '-fno-rtti', '-fno-threadsafe-statics', '-fvisibility=hidden',
  '-msimd128', '-mbulk-memory', '-mnontrapping-fptoint', '-msign-ext', '-mmutable-globals',
  '-Wall', '-Wextra', '-Werror=return-type',
  '-Icpp', '-Icpp/generated',
];

const linkFlags = [
  '--no-entry', '--export-dynamic', '--export=__heap_base', '--import-memory', '--gc-sections',
  // The stack comes first in memory: running over its end traps instead of overwriting data.
  '-z', `stack-size=${STACK_BYTES}`, '--stack-first',
  // Only the limit: the memory is made by the runtime, as large as the model's plan needs.
  '--max-memory=4294967296',
];

/** What a variant is made of: the engine, or the quantiser and what they share. */
function sourcesFor(variant) {
  const own = files(join(root, 'cpp', 'quant'), /\.cc$/);
  return variant === 'quantize' ? [join(root, 'cpp', 'math.cc'), join(root, 'cpp', 'model', 'rope.cc'), ...own]
    : files(join(root, 'cpp'), /\.cc$/).filter(path => !own.includes(path));
}

/** Builds the named variants into `out`; object files are kept under `work`. */
export async function buildWasm({ only = Object.keys(variants), sources = /** @type {string[] | undefined} */ (undefined), out = join(dist, 'wasm'), work = cache, names = false, force = false } = {}) {
  const unknown = only.find(name => !variants[name]);
  if (unknown) throw new BuildError(`There is no variant "${unknown}"; there are ${Object.keys(variants).join(', ')}.`);
  const tools = await toolchain();
  const sourcesOf = name => sources ?? sourcesFor(name);

  const start = performance.now();
  const objects = Object.fromEntries(only.map(name => [name, []]));
  let compiled = 0;
  await inParallel(only.flatMap(name => sourcesOf(name).map((source, index) => async () => {
    const { object, fresh } = await compile(source, name, tools, work);
    objects[name][index] = object;
    compiled += fresh;
  })));
  if (compiled > 0) say(`  C++: compiled ${compiled} of ${only.reduce((sum, name) => sum + sourcesOf(name).length, 0)} objects in ${((performance.now() - start) / 1000).toFixed(1)} s  (${tools.from}: ${tools.version})`);

  await inParallel(only.map(name => () => {
    const target = join(out, `lutra-${name}.wasm`);
    const flags = [...linkFlags, names ? '--strip-debug' : '--strip-all', ...(variants[name].includes('-matomics') ? ['--shared-memory'] : [])];
    const work = () => link(objects[name], name, target, tools, flags);
    // Elsewhere than in dist/ nothing is remembered.
    return out === join(dist, 'wasm') ? step(`wasm ${name}`, { texts: [tools.version, ...flags], paths: objects[name] }, [target], work, { force }) : work();
  }));
}

async function compile(source, variant, tools, work) {
  const object = join(work, 'obj', variant, `${shown(source).replace(/^cpp\//, '').replaceAll('/', '.')}.o`);
  const record = `${object}.json`;
  const flags = [...compileFlags, ...variants[variant], `-ffile-prefix-map=${root}=.`];
  const key = paths => hashOf({ texts: [tools.version, tools.sysroot, ...compileFlags, ...variants[variant]], paths });
  if (existsSync(object) && existsSync(record)) {
    const last = JSON.parse(readFileSync(record, 'utf8'));
    const paths = last.paths.map(path => join(root, path));
    if (paths.every(path => existsSync(path)) && key(paths) === last.key) return { object, fresh: 0 };
  }
  mkdirSync(dirname(object), { recursive: true });
  const dependencies = `${object}.d`;
  rmSync(record, { force: true });
  await run(tools.clang, [...flags, `--sysroot=${tools.sysroot}`, '-MMD', '-MF', dependencies, '-c', shown(source), '-o', object])
    .then(() => {}, error => { throw new BuildError(`${shown(source)} does not compile (${variant}).\n${error.message}`); });
  // A make rule, "object: source header …"; system headers are left out by -MMD, and stand in the compiler's version.
  const paths = readFileSync(dependencies, 'utf8').replace(/\\\r?\n/g, ' ').replace(/^.*?\.o:/s, '').trim().split(/\s+/)
    .filter(path => !path.startsWith('/') || path.startsWith(root)).map(path => shown(join(root, path.replace(root, ''))));
  writeWhole(record, JSON.stringify({ key: key(paths.map(path => join(root, path))), paths }));
  return { object, fresh: 1 };
}

async function link(objects, variant, target, tools, flags) {
  mkdirSync(dirname(target), { recursive: true });
  const linked = `${target}.${process.pid}.tmp`;
  try {
    await run(tools.linker, [...flags, ...objects, '-o', linked]);
    await checkWasm(linked, `lutra-${variant}.wasm`);
    const bytes = readFileSync(linked);
    renameSync(linked, target);
    return `${bytes.length} bytes, ${gzipSync(bytes, { level: 9 }).length} gzipped`;
  } finally {
    rmSync(linked, { force: true });
  }
}

await ifMain(import.meta, async args => {
  const value = flag => args.includes(flag) ? args[args.indexOf(flag) + 1] : undefined;
  await withBuildLock(async () => {
    await generate();
    await buildWasm({ only: value('--only')?.split(','), out: value('--out'), names: args.includes('--names') });
  });
});

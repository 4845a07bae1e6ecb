// serial
// What a user gets: the tarball, installed without scripts and offline, where PATH holds no compiler.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { repoRoot } from '../helpers/paths.js';

const test = suite('tarball');
const execute = promisify(execFile);
const manifest = JSON.parse(readFileSync(join(repoRoot, 'package.json'), 'utf8'));
const MODEL = 'models/stories.lutra.safetensors';

let folder: string, app: string, bin: string;
let packed: { filename: string; size: number; unpackedSize: number; files: { path: string }[] };

test.before(async () => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'lutra-')));
  [app, bin] = ['app', 'bin'].map(name => join(folder, name)) as [string, string];
  for (const path of [app, bin]) mkdirSync(path);
  // All that a user without a compiler has: node and a shell.
  symlinkSync(process.execPath, join(bin, 'node'));
  if (existsSync('/bin/sh')) symlinkSync('/bin/sh', join(bin, 'sh'));
  [packed] = JSON.parse(await npm('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], repoRoot));
  writeFileSync(join(app, 'package.json'), '{ "private": true }');
  await npm('npm', ['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', join(folder, packed.filename)]);
});
test.after(() => rmSync(folder, { recursive: true, force: true }));

/** Where npm's own scripts are: beside the running npm, else those of the npm on PATH. */
function npmScript(name: 'npm' | 'npx'): string {
  const beside = process.env.npm_execpath && join(dirname(process.env.npm_execpath), `${name}-cli.js`);
  if (beside && existsSync(beside)) return beside;
  const onPath = (process.env.PATH ?? '').split(delimiter).map(path => join(path, name)).find(path => existsSync(path));
  assert.ok(onPath, `${name} is on PATH`);
  return realpathSync(onPath);
}

async function npm(name: 'npm' | 'npx', args: string[], cwd = app): Promise<string> {
  // Nothing of the npm that runs these tests reaches the one under test.
  const inherited = Object.entries(process.env).filter(([key]) => !/^(npm_(?!config_cache|config_cafile|config_registry)|INIT_CWD|NODE_PATH|EMSDK|LUTRA_)/i.test(key));
  const { stdout } = await execute(process.execPath, [npmScript(name), ...args],
    { cwd, env: { ...Object.fromEntries(inherited), PATH: bin }, maxBuffer: 64 << 20 });
  return stdout;
}

test('PATH holds no compiler', () => {
  assert.equal(readdirSync(bin).filter(name => !['node', 'sh'].includes(name)), []);
});

test('it holds what is needed and nothing else', () => {
  const paths = packed.files.map(file => file.path).sort();
  const needed = ['LICENSE', 'README.md', 'package.json', 'docs/format.md', MODEL, 'dist/THIRD-PARTY-LICENSES.txt', 'dist/types/index.d.ts',
    ...['index', 'inline', 'inline.script', 'react-native', 'react-native.plain', 'worker', 'worker-chat', 'worker-import', 'crew-worker', 'pack-worker', 'quant-worker', 'cli'].map(name => `dist/${name}.js`),
    ...['lutra-simd', 'lutra-simd-shared', 'lutra-relaxed', 'lutra-relaxed-shared', 'lutra-quantize', 'packers'].map(name => `dist/wasm/${name}.wasm`)];
  assert.equal(needed.filter(path => !paths.includes(path)), [], 'missing');
  const allowed = /^(LICENSE|README\.md|package\.json|docs\/format\.md|models\/[^/]+|dist\/[\w.-]+?(\.js|\.js\.LEGAL\.txt|\.txt)|dist\/types\/.*\.d\.ts|dist\/wasm\/[\w-]+\.wasm)$/;
  assert.equal(paths.filter(path => !allowed.test(path)), [], 'not expected');
});

test('it has no dependencies and no install scripts', () => {
  const { dependencies, optionalDependencies, scripts = {} } = JSON.parse(readFileSync(join(app, 'node_modules', 'lutra', 'package.json'), 'utf8'));
  assert.is(dependencies, undefined);
  assert.is(optionalDependencies, undefined);
  assert.equal(['preinstall', 'install', 'postinstall'].filter(name => name in scripts), []);
  assert.equal(readdirSync(join(app, 'node_modules')).filter(name => !name.startsWith('.')), ['lutra']);
});

test('npx lutra --version', async () => {
  assert.is((await npm('npx', ['--no', 'lutra', '--', '--version'])).trim(), manifest.version);
});

test('npx lutra run prints text of the embedded model', async () => {
  const model = join('node_modules', 'lutra', MODEL);
  const answer = JSON.parse(await npm('npx', ['--no', 'lutra', '--', 'run', model, '-p', 'Once upon a time', '-n', '24', '--temp', '0', '--json']));
  assert.ok(answer.text.trim().length > 20, `text: ${answer.text}`);
  assert.is(answer.completionTokens, answer.ids.length);
  assert.ok(answer.decodeTokensPerSecond > 0);
});

test('import \'lutra\' works, and the process ends by itself', async () => {
  writeFileSync(join(app, 'app.mjs'), `
    import { loadModel } from 'lutra';
    const model = await loadModel(${JSON.stringify(join('node_modules', 'lutra', MODEL))});
    const { text, completionTokens } = await model.generate('Once upon a time', { maxTokens: 8, temperature: 0 }).result;
    await model.dispose();
    console.log(JSON.stringify({ text, completionTokens }));`);
  const { stdout } = await execute(process.execPath, ['app.mjs'], { cwd: app, env: { PATH: bin }, timeout: 60_000 });
  const { text, completionTokens } = JSON.parse(stdout);
  assert.ok(text.length > 0);
  assert.is(completionTokens, 8);
});

test('its types are found and hold together', async () => {
  writeFileSync(join(app, 'app.ts'), `
    import { loadModel, type GenerationResult, LutraError } from 'lutra';
    export async function story(path: string): Promise<GenerationResult> {
      const model = await loadModel(path, { threads: 'auto' });
      try {
        for await (const { text } of model.generate('Once', { maxTokens: 3 })) text.toUpperCase();
        return await model.generate('Once').result;
      } catch (error) {
        if (error instanceof LutraError) error.hint satisfies string;
        throw error;
      } finally {
        await model.dispose();
      }
    }`);
  const tsc = join(repoRoot, 'node_modules', 'typescript', 'bin', 'tsc');
  writeFileSync(join(app, 'tsconfig.json'), JSON.stringify({ files: ['app.ts'], compilerOptions: {
    noEmit: true, strict: true, target: 'es2022', module: 'nodenext', types: [], lib: ['es2022', 'esnext.disposable', 'dom'] } }));
  await execute(process.execPath, [tsc, '-p', '.'], { cwd: app }).catch(error => assert.unreachable(error.stdout));
});

test.run();

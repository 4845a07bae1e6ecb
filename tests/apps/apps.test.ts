// serial, 600 s
// The package in an app that Vite, webpack or esbuild builds, without any setting of their own, in Chromium.
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from '../../build/util.mjs';
import { runtime } from '../../build/runtimes.mjs';
import { chattyFile } from '../formats/gguf-file.js';
import { reportOf } from '../helpers/elsewhere.js';
import { packages, placeLutra } from '../helpers/packages.js';
import { repoRoot } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';

const test = suite('apps');
const sources = join(repoRoot, 'tests', 'apps'), folder = mkdtempSync(join(tmpdir(), 'lutra-apps-'));
const model = join(repoRoot, 'models', 'stories.lutra.safetensors');
const found = await runtime('chromium'), tools = await packages('apps', sources);

test.before(() => {
  if ('missing' in tools) return;
  for (const name of ['package.json', 'index.html', 'main.js']) cpSync(join(sources, name), join(folder, name));
  mkdirSync(join(folder, 'node_modules'));
  for (const name of ['.bin', 'vite', 'webpack', 'webpack-cli', 'esbuild', 'terser-webpack-plugin']) {
    if (existsSync(join(tools.folder, 'node_modules', name))) symlinkSync(join(tools.folder, 'node_modules', name), join(folder, 'node_modules', name));
  }
  placeLutra(folder);
  writeFileSync(join(folder, 'tiny.gguf'), chattyFile());
});
test.after(() => rmSync(folder, { recursive: true, force: true }));

const tool = (name: string, ...args: string[]) => run(join(folder, 'node_modules', '.bin', name), args, { cwd: folder } as object);
const copyAssets = (out: string, names: string[]) => names.forEach(name => cpSync(join(folder, 'node_modules', 'lutra', 'dist', name), join(folder, out, name), { recursive: true }));

/** Name -> builds into the folder it returns. */
const builds: Record<string, () => Promise<string>> = {
  async vite() {
    await tool('vite', 'build', '--outDir', 'with-vite', '--logLevel', 'error');
    return 'with-vite';
  },
  async webpack() {
    await tool('webpack', 'build', '--mode', 'production', '--entry', './main.js', '--output-path', join(folder, 'with-webpack'), '--output-filename', 'main.js', '--stats', 'errors-warnings');
    cpSync(join(folder, 'index.html'), join(folder, 'with-webpack', 'index.html'));
    return 'with-webpack';
  },
  // esbuild leaves `new URL(…, import.meta.url)` as it is: the files have to be put beside the bundle.
  async esbuild() {
    await tool('esbuild', 'main.js', '--bundle', '--format=esm', '--outdir=with-esbuild', '--log-level=warning');
    cpSync(join(folder, 'index.html'), join(folder, 'with-esbuild', 'index.html'));
    copyAssets('with-esbuild', ['worker.js', 'worker-chat.js', 'worker-import.js', 'crew-worker.js', 'pack-worker.js', 'wasm']);
    return 'with-esbuild';
  },
  async 'esbuild, with lutra/inline'() {
    await tool('esbuild', 'main.js', '--bundle', '--format=esm', '--alias:lutra=lutra/inline', '--outdir=with-inline', '--log-level=warning');
    cpSync(join(folder, 'index.html'), join(folder, 'with-inline', 'index.html'));
    return 'with-inline';
  },
};

for (const [name, build] of Object.entries(builds)) {
  const missing = [found, tools].flatMap(one => 'missing' in one ? [one.missing] : []);
  if (missing.length > 0) {
    skip(test, name, missing.join('; '));
    continue;
  }
  test(name, async () => {
    const out = join(folder, await build());
    for (const isolated of [true, false]) {
      const { text, completionTokens, crew, wasm, chatted } = await reportOf<{ text: string; completionTokens: number; crew: string; wasm: string; chatted: number }>('chromium', '/index.html', { folder: out, isolated, files: { '/model': model, '/gguf': join(folder, 'tiny.gguf') } });
      assert.ok(text.length > 10);
      assert.equal([completionTokens, chatted], [20, 4]);
      assert.match(`${crew}, ${wasm}`, isolated ? /^shared, relaxed-shared$/ : /^(single|private), relaxed$/); // as timing settles it
    }
  });
}

test.run();

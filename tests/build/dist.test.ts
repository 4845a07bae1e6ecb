// What the build before these tests has left in dist/.
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { buildPackers } from '../../build/packers.mjs';
import { variants } from '../../build/wasm.mjs';
import { repoRoot } from '../helpers/paths.js';

const test = suite('dist');
const wasm = (name: string) => join(repoRoot, 'dist', 'wasm', name);
const names = [...Object.keys(variants).map(name => `lutra-${name}.wasm`), 'packers.wasm'];

for (const name of names) {
  // What the build has checked in the disassembly; an engine without relaxed SIMD cannot read the relaxed ones.
  test(`${name} imports memory alone`, () => {
    const bytes = new Uint8Array(readFileSync(wasm(name)));
    if (!WebAssembly.validate(bytes)) return assert.match(name, 'relaxed');
    assert.equal(WebAssembly.Module.imports(new WebAssembly.Module(bytes)), [{ module: 'env', name: 'memory', kind: 'memory' }]);
  });
}

test('packers built again are the same bytes', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lutra-'));
  try {
    await buildPackers({ out: join(folder, 'packers.wasm') });
    assert.ok(readFileSync(join(folder, 'packers.wasm')).equals(readFileSync(wasm('packers.wasm'))));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('the library imports nothing, so that bundlers for the web have nothing to look for', () => {
  for (const name of ['index.js', 'inline.js', 'inline.script.js', 'worker.js', 'worker-chat.js', 'worker-import.js', 'crew-worker.js', 'pack-worker.js']) {
    const text = readFileSync(join(repoRoot, 'dist', name), 'utf8');
    assert.not.match(text, /^\s*import\b(?!\.)/m, name);
    assert.not.match(text, /\bimport\(/, name);
    if (name.startsWith('inline')) assert.not.match(text, /import\.meta/, name);
    assert.not.match(text, /__require\(/, name);
  }
});

test('every file beside the library is named in a way that bundlers find', () => {
  const urls = readFileSync(join(repoRoot, 'src', 'platform', 'beside.ts'), 'utf8').match(/new URL\('.+?', import\.meta\.url\)/g)!;
  const found = readFileSync(join(repoRoot, 'dist', 'index.js'), 'utf8').match(/new URL\(\s*"[^"]+",\s*import\.meta\.url\)/g) ?? [];
  assert.ok(urls.length > 10);
  assert.equal(found.map(url => url.replace(/\s/g, '')), urls.map(url => url.replace(/'/g, '"').replace(/\s/g, '')));
});

/** Gzipped, in kB: what there is now with little room. docs/dependencies.md says what of it is whose. */
const sizes: Record<string, number> = { 'worker-chat.js': 21, 'worker-import.js': 32, 'pack-worker.js': 9, 'inline.js': 394, 'inline.script.js': 394, 'react-native.js': 258 };
/** What runs a packed model: 60 together. */
const runtime = ['index.js', 'worker.js', 'crew-worker.js'];
const gzipped = (path: string) => gzipSync(readFileSync(path), { level: 9 }).length / 1000;

test('sizes', () => {
  for (const [name, most] of Object.entries(sizes)) assert.ok(gzipped(join(repoRoot, 'dist', name)) <= most, `${name}: ${gzipped(join(repoRoot, 'dist', name))} kB, ${most} allowed`);
  const together = runtime.reduce((sum, name) => sum + gzipped(join(repoRoot, 'dist', name)), 0);
  assert.ok(together <= 60, `${runtime.join(', ')}: ${together} kB, 60 allowed`);
  for (const name of names) assert.ok(gzipped(wasm(name)) <= 200, `${name}: ${gzipped(wasm(name))} kB`);
});

test('the command line can be executed and names the licences of what it contains', () => {
  const cli = join(repoRoot, 'dist', 'cli.js');
  assert.ok(readFileSync(cli, 'utf8').startsWith('#!/usr/bin/env node\n'));
  if (process.platform !== 'win32') assert.ok(statSync(cli).mode & 0o100);
  const licences = readFileSync(join(repoRoot, 'dist', 'THIRD-PARTY-LICENSES.txt'), 'utf8');
  for (const name of ['@huggingface/tokenizers', 'commander', 'cli-progress']) assert.match(licences, `\n${name} `);
});

test.run();

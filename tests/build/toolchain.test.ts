import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { toolchain } from '../../build/toolchain.mjs';

const test = suite('toolchain');
let folder: string;
const given = process.env.EMSDK;
test.before.each(() => { folder = mkdtempSync(join(tmpdir(), 'lutra-')); });
test.after.each(() => {
  rmSync(folder, { recursive: true, force: true });
  if (given === undefined) delete process.env.EMSDK;
  else process.env.EMSDK = given;
});

/** A folder laid out as emsdk does it, with the programs that this build uses. */
async function imitation(version: string): Promise<void> {
  const real = await toolchain({ install: false });
  const scripts = join(folder, 'upstream', 'emscripten');
  mkdirSync(join(folder, 'upstream', 'bin'), { recursive: true });
  mkdirSync(join(scripts, 'cache'), { recursive: true });
  writeFileSync(join(scripts, 'emscripten-version.txt'), `"${version}"\n`);
  symlinkSync(real!.clang, join(folder, 'upstream', 'bin', 'clang++'));
  symlinkSync(real!.linker, join(folder, 'upstream', 'bin', 'wasm-ld'));
  symlinkSync(real!.sysroot, join(scripts, 'cache', 'sysroot'));
  process.env.EMSDK = folder;
}

test('there is one here', async () => {
  const found = await toolchain({ install: false });
  assert.ok(found, 'the build has just used it');
  assert.match(found.version, /clang version.*; .*LLD/);
});

test('EMSDK comes first', async () => {
  await imitation('4.0.10');
  const found = await toolchain({ install: false });
  assert.is(found?.from, 'EMSDK, Emscripten 4.0.10');
  assert.is(found?.sysroot, join(folder, 'upstream', 'emscripten', 'cache', 'sysroot'));
});

test('an Emscripten before version 4 is passed over', async () => {
  await imitation('3.1.74');
  assert.not.match((await toolchain({ install: false }))?.from ?? '', 'EMSDK');
});

test('an EMSDK that is not there is passed over', async () => {
  process.env.EMSDK = join(folder, 'nothing');
  assert.not.match((await toolchain({ install: false }))?.from ?? '', 'EMSDK');
});

test.run();

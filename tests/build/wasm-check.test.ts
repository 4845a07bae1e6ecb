import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import binaryen from 'binaryen';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkWasm } from '../../build/wasm-check.mjs';

const test = suite('check of wasm files');
let folder: string;
test.before(() => { folder = mkdtempSync(join(tmpdir(), 'lutra-')); });
test.after(() => rmSync(folder, { recursive: true, force: true }));

function wasm(name: string, text: string): string {
  const module = binaryen.parseText(text);
  module.setFeatures(binaryen.Features.All);
  const path = join(folder, `${name}.wasm`);
  writeFileSync(path, module.emitBinary());
  return path;
}

const memory = '(import "env" "memory" (memory 1))';

async function refusal(path: string): Promise<string> {
  try {
    await checkWasm(path, 'x.wasm');
  } catch (error) {
    return (error as Error).message;
  }
  return 'accepted';
}

test('a module that imports env.memory alone is accepted', async () => {
  assert.is(await refusal(wasm('good', `(module ${memory} (func (export "f")))`)), 'accepted');
});

test('any other import is refused and named', async () => {
  const path = wasm('import', `(module ${memory} (import "env" "expf" (func $e (param f32) (result f32))) (func (export "f") (drop (call $e (f32.const 1)))))`);
  assert.is(await refusal(path), 'x.wasm imports env.expf: only env.memory is allowed.');
});

test('a module with its own memory is refused', async () => {
  assert.match(await refusal(wasm('own', '(module (memory 1) (func (export "f")))')), 'a memory of its own');
});

for (const [shape, op] of [['f32x4', 'relaxed_madd'], ['f32x4', 'relaxed_nmadd'], ['f64x2', 'relaxed_madd']] as const) {
  test(`${shape}.${op} is refused`, async () => {
    const path = wasm(`${shape}-${op}`, `(module ${memory} (func (export "f") (param v128) (result v128) (${shape}.${op} (local.get 0) (local.get 0) (local.get 0))))`);
    assert.match(await refusal(path), `contains ${shape}.${op}`);
  });
}

test('other relaxed instructions are accepted', async () => {
  const path = wasm('relaxed', `(module ${memory} (func (export "f") (param v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 0))))`);
  assert.is(await refusal(path), 'accepted');
});

test.run();

// The compiler and the linker, on a small source of its own: whatever cpp/ holds is in the build before.
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { buildWasm } from '../../build/wasm.mjs';

const test = suite('wasm build');
let folder: string;
test.before(() => { folder = mkdtempSync(join(tmpdir(), 'lutra-')); });
test.after(() => rmSync(folder, { recursive: true, force: true }));

const source = (name: string, text: string): string => {
  const path = join(folder, name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, text);
  return path;
};
const EXPORT = 'extern "C" __attribute__((visibility("default"), used))';

async function build(name: string, variant: string, ...sources: string[]): Promise<Uint8Array<ArrayBuffer>> {
  const out = join(folder, name);
  await buildWasm({ only: [variant], sources, out, work: join(out, 'objects') });
  return new Uint8Array(readFileSync(join(out, `lutra-${variant}.wasm`)));
}

async function refusal(name: string, variant: string, text: string): Promise<string> {
  try {
    await build(name, variant, source(`${name}.cc`, text));
  } catch (error) {
    return (error as Error).message;
  }
  return 'accepted';
}

test('two builds from nothing give the same bytes', async () => {
  const sum = source('sum.cc', `#include <wasm_simd128.h>
    static float table[4] = {1, 2, 3, 4};
    ${EXPORT} float sum(const float* x, int n) {
      v128_t s = wasm_v128_load(table);
      for (int i = 0; i < n; i += 4) s = wasm_f32x4_add(s, wasm_v128_load(x + i));
      return wasm_f32x4_extract_lane(s, 0);
    }`);
  const hash = async (name: string) => createHash('sha256').update(await build(name, 'relaxed-shared', sum)).digest('hex');
  assert.is(await hash('once'), await hash('again'));
});

test('the memory may have any maximum, the stack ends in a trap, products are not contracted', async () => {
  const bytes = await build('limits', 'simd', source('limits.cc', `
    ${EXPORT} int deep(int n) { volatile char pad[4096]; pad[n & 1] = 1; return n == 0 ? 0 : deep(n - 1) + pad[n & 1]; }
    ${EXPORT} float mulAdd(float a, float b, float c) { return a * b + c; }`));
  const memory = new WebAssembly.Memory({ initial: 3, maximum: 5 });
  const { exports } = await WebAssembly.instantiate(bytes, { env: { memory } }).then(({ instance }) => instance) as any;
  assert.is(exports.deep(10), 10);
  assert.throws(() => exports.deep(100), (error: unknown) => error instanceof WebAssembly.RuntimeError);
  const a = 1 + 2 ** -12;
  assert.is(exports.mulAdd(a, a, -(1 + 2 ** -11)), 0, 'a fused product would leave 2^-24');
});

test('a function that nobody defines does not link', async () => {
  assert.match(await refusal('undefined', 'simd', `extern "C" float expf(float); ${EXPORT} float f(float x) { return expf(x); }`), 'undefined symbol: expf');
});

test('a declared import is refused', async () => {
  assert.match(await refusal('import', 'simd', `extern "C" __attribute__((import_module("env"), import_name("now"))) double now(); ${EXPORT} double f() { return now(); }`),
    'imports env.now');
});

test('relaxed_madd in the source is refused', async () => {
  assert.match(await refusal('madd', 'relaxed', `#include <wasm_simd128.h>
    ${EXPORT} float f(float x) { v128_t v = wasm_f32x4_splat(x); return wasm_f32x4_extract_lane(wasm_f32x4_relaxed_madd(v, v, v), 0); }`), 'relaxed_madd');
});

test.run();

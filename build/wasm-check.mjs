/** What every wasm file of the package must be, looked up in its disassembly. */
import { join } from 'node:path';
import { BuildError, ifMain, root, run } from './util.mjs';

const wasmDis = join(root, 'node_modules', 'binaryen', 'bin', 'wasm-dis');

/**
 * Refuses any import but `env.memory`, so that a module needs nothing from its host, and `relaxed_madd`, whose result
 * differs between engines (some compilers write it by themselves where relaxed SIMD is allowed).
 */
export async function checkWasm(path, name = path) {
  const text = await run(process.execPath, [wasmDis, path, '--all-features', '-o', '-']);
  const imports = [...text.matchAll(/^\s*\(import "([^"]*)" "([^"]*)"/gm)].map(([, module, field]) => `${module}.${field}`);
  const others = imports.filter(one => one !== 'env.memory');
  if (others.length > 0) throw new BuildError(`${name} imports ${others.join(', ')}: only env.memory is allowed.`);
  if (/^\s*\(memory /m.test(text)) throw new BuildError(`${name} has a memory of its own instead of importing env.memory.`);
  const fused = text.match(/\b[a-z0-9]+\.relaxed_n?madd\b/);
  if (fused) throw new BuildError(`${name} contains ${fused[0]}, whose result differs between engines.`);
}

await ifMain(import.meta, async paths => {
  for (const path of paths) {
    await checkWasm(path);
    console.log(`${path}: ok`);
  }
});

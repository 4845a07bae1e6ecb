/** The packers' raw functions and their memory. */
import { readAsset } from '../../src/platform/platform.js';

export type Wasm = Record<string, (...args: number[]) => number>;

export async function loadWasm(): Promise<{ wasm: Wasm; memory: WebAssembly.Memory; base: number }> {
  const memory = new WebAssembly.Memory({ initial: 64 });
  const { instance } = await WebAssembly.instantiate(await readAsset('wasm/packers.wasm'), { env: { memory } });
  const wasm = instance.exports as unknown as Wasm;
  return { wasm, memory, base: Math.ceil(wasm.heapBase!() / 64) * 64 };
}

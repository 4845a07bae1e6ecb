/** Which build of the engine this JavaScript engine can run, and one instance of it. */
import { EnvironmentError } from '../errors.js';
import { HEAP_BASE } from '../generated/layout.js';
import { readAsset, type AssetName } from '../platform/platform.js';
import type { EngineInfo } from './types.js';

/** The functions of cpp/abi.cc. */
export interface Exports {
  setStack(top: number): void;
  kernelName(part: number): number;
  workspaceBytes(model: number): number;
  bind(model: number, workspace: number): void;
  begin(rows: number, m: number): number;
  run(from: number, to: number, threads: number): number;
  exchange(step: number): number;
  follow(rank: number): void;
  setCores(n: number): void;
  dismiss(): void;
  fail(): void;
  logits(i: number): number;
  sample(i: number, options: number): number;
  logProbability(i: number, token: number): number;
  hashLogits(i: number, hash: bigint): bigint;
}

export type Variant = EngineInfo['wasm'];

/** (func (result v128) i32.const 1 i8x16.splat i32.const 2 i8x16.splat i8x16.relaxed_swizzle) */
const relaxedProbe = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11];
const simdProbe = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 1, 253, 15, 11];

export const hasRelaxedSimd = (): boolean => WebAssembly.validate(new Uint8Array(relaxedProbe));

/** Whether this JavaScript engine can run any variant at all. */
export const hasSimd = (): boolean => typeof WebAssembly === 'object' && WebAssembly.validate(new Uint8Array(simdProbe));

export function chooseVariant(tier: 'simd' | 'relaxed' | 'auto', shared: boolean): Variant {
  if (!hasSimd()) {
    throw new EnvironmentError('WebAssembly SIMD', 'Use Node 20 or newer, or a browser of 2023 or later.');
  }
  const relaxed = hasRelaxedSimd();
  if (tier === 'relaxed' && !relaxed) {
    throw new EnvironmentError('relaxed WebAssembly SIMD', 'Use `variant: \'simd\'`, or Node 22 or newer.');
  }
  return `${tier === 'auto' ? (relaxed ? 'relaxed' : 'simd') : tier}${shared ? '-shared' : ''}`;
}

export async function compile(variant: Variant): Promise<WebAssembly.Module> {
  return WebAssembly.compile(await readAsset(`wasm/lutra-${variant}.wasm` satisfies AssetName));
}

/** Instances of one module over one memory share everything but their stacks. */
export function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): Exports {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const heapBase = (exports.__heap_base as WebAssembly.Global).value as number;
  if (heapBase > HEAP_BASE) throw new Error(`the engine's static data ends at ${heapBase}, beyond HEAP_BASE`);
  return exports as unknown as Exports;
}

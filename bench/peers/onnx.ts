/** onnxruntime-web's MatMulNBits, one thread: a model of that single operator, written by hand. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { time, type KernelRow } from '../kernels.js';
import { peerRequire } from './install.js';

const varint = (n: number): number[] => n < 128 ? [n] : [n % 128 + 128, ...varint(Math.floor(n / 128))];
/** Fields of a protocol buffer. */
const int = (field: number, value: number) => Buffer.from([...varint(field * 8), ...varint(value)]);
const bytes = (field: number, ...parts: (Buffer | string)[]) => {
  const body = Buffer.concat(parts.map(part => Buffer.from(part)));
  return Buffer.concat([Buffer.from([...varint(field * 8 + 2), ...varint(body.length)]), body]);
};

const FLOAT = 1, UINT8 = 2, INT_ATTRIBUTE = 2;
const attribute = (name: string, value: number) => bytes(5, bytes(1, name), int(3, value), int(20, INT_ATTRIBUTE));
const tensor = (name: string, type: number, dims: number[], data: Buffer) => bytes(5, ...dims.map(dim => int(1, dim)), int(2, type), bytes(8, name), bytes(9, data));
const value = (field: number, name: string, dims: number[]) => bytes(field, bytes(1, name), bytes(2, bytes(1, int(1, FLOAT), bytes(2, ...dims.map(dim => bytes(1, int(1, dim)))))));

/** y[1, n] = x[1, k] · Wᵀ, W of `bits` in blocks of `block` columns with a scale each. */
function model(n: number, k: number, bits: number, block: number): Buffer {
  const blocks = k / block;
  const node = bytes(1, bytes(1, 'x'), bytes(1, 'w'), bytes(1, 's'), bytes(2, 'y'), bytes(4, 'MatMulNBits'), bytes(7, 'com.microsoft'),
    attribute('K', k), attribute('N', n), attribute('bits', bits), attribute('block_size', block));
  const weights = tensor('w', UINT8, [n, blocks, block * bits / 8], randomBytes(n * k * bits / 8));
  const scales = tensor('s', FLOAT, [n * blocks], Buffer.from(new Float32Array(n * blocks).fill(0.01).buffer));
  const graph = bytes(7, node, bytes(2, 'bench'), weights, scales, value(11, 'x', [1, k]), value(12, 'y', [1, n]));
  const opset = (domain: string, version: number) => bytes(8, bytes(1, domain), int(2, version));
  return Buffer.concat([int(1, 8), graph, opset('', 17), opset('com.microsoft', 1)]);
}

interface Ort {
  env: { wasm: { numThreads: number } };
  InferenceSession: { create(model: Uint8Array, options: object): Promise<{ run(feeds: object): Promise<unknown>; release(): Promise<void> }> };
  Tensor: new (type: 'float32', data: Float32Array, dims: number[]) => object;
}

export async function benchOnnx(): Promise<KernelRow[]> {
  const path = peerRequire.resolve('onnxruntime-web');
  const ort = peerRequire(path) as Ort, { version } = JSON.parse(readFileSync(join(dirname(dirname(path)), 'package.json'), 'utf8')) as { version: string };
  ort.env.wasm.numThreads = 1;
  const rows: KernelRow[] = [], n = 4096, k = 4096, block = 128;
  for (const bits of [2, 4]) {
    const session = await ort.InferenceSession.create(model(n, k, bits, block), { executionProviders: ['wasm'] });
    const x = new ort.Tensor('float32', Float32Array.from({ length: k }, (_, i) => Math.fround(i % 7 / 7)), [1, k]);
    const seconds = await time('MatMulNBits', 1000, async () => { await session.run({ x }); });
    await session.release();
    const weights = n * k * bits / 8 + n * k / block * 4;
    rows.push({ kernel: `onnxruntime-web ${version} MatMulNBits ${bits} bits`, groupSize: block, rows: n, cols: k, gops: 2 * n * k / seconds / 1e9, gbps: weights / seconds / 1e9, share: null, gopsMany: null });
  }
  return rows;
}

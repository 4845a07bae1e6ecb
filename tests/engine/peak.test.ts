// serial
/** A process that loads a model of 1.1 billion weights at 2 bits and generates with it: its memory at the peak. */
import { execFile } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { shapes, synthetic } from '../../bench/shapes.js';
import { blockTypes, randomBlocks } from '../formats/gguf-blocks.js';
import { ggufHeader, num, tinyParts, tokens, typeIds, type Raw } from '../formats/gguf-file.js';
import { repoRoot } from '../helpers/paths.js';
import { writePacked } from './files.js';

const MB = 1e6;

/**
 * A process of its own that does nothing else; every position of the KV cache is used. Linux keeps the exact figure: `maxRSS`
 * begins with what the parent had when it forked.
 */
const script = (path: string) => `
  import { readFileSync } from 'node:fs';
  import { loadModel } from ${JSON.stringify(pathToFileURL(join(repoRoot, 'dist', 'index.js')))};
  const model = await loadModel(${JSON.stringify(path)}, { threads: 2, context: 64 });
  const { completionTokens } = await model.generate(Array.from({ length: 56 }, (_, i) => (3 + 97 * i) % 250), { temperature: 0, maxTokens: 8 }).result;
  const status = process.platform === 'linux' ? /VmHWM:\\s*(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1] : process.resourceUsage().maxRSS;
  console.log(JSON.stringify({ peak: status * 1024, completionTokens, info: model.info() }));
  await model.dispose();`;

const test = suite('peak memory');

test('at most 1.10 x file + KV cache + 80 MB', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lutra-')), path = join(folder, 'model.safetensors');
  try {
    await writePacked(path, synthetic(shapes['1.1b']!, '2', 128, '8'));
    const bytes = statSync(path).size;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script(path)], { timeout: 100_000 });
    const { peak, completionTokens, info: { threads, memoryBytes, kernels } } = JSON.parse(stdout);
    assert.is(threads, 2);
    assert.ok(Object.keys(kernels).some(name => name.startsWith('planes2-i16')), Object.keys(kernels).join());
    assert.is(completionTokens, 8);
    assert.ok(bytes > 350 * MB && peak > bytes, `${bytes}, ${peak}`);
    const bound = 1.1 * bytes + memoryBytes.kvPerSession + 80 * MB, shown = [bytes, memoryBytes.kvPerSession, memoryBytes.workspace, peak, bound].map(n => Math.round(n / MB));
    console.log(`file ${shown[0]} MB, KV cache ${shown[1]} MB, workspace ${shown[2]} MB, peak ${shown[3]} MB of ${shown[4]} MB`);
    assert.ok(peak <= bound, `${shown}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** A GGUF file of TinyLlama's layers, all its matrices of one type and of the same random blocks. */
function writeGguf(path: string, type: string): void {
  const dim = 2048, hiddenDim = 5632, kv = 256, nLayers = 22, { elements, bytes } = blockTypes[type]!, small = tinyParts();
  const tensors: { name: string; dims: number[]; type: number; bytes: { length: number } }[] = [];
  const matrix = (name: string, rows: number, cols: number) => tensors.push({ name, dims: [cols, rows], type: typeIds[type]!, bytes: { length: rows * cols / elements * bytes } });
  const norm = (name: string) => tensors.push({ name, dims: [dim], type: 0, bytes: { length: 4 * dim } });
  matrix('token_embd.weight', tokens.length, dim);
  for (let i = 0; i < nLayers; i++) {
    norm(`blk.${i}.attn_norm.weight`);
    for (const [name, rows, cols] of [['attn_q', dim, dim], ['attn_k', kv, dim], ['attn_v', kv, dim], ['attn_output', dim, dim]] as const) matrix(`blk.${i}.${name}.weight`, rows, cols);
    norm(`blk.${i}.ffn_norm.weight`);
    for (const [name, rows, cols] of [['ffn_gate', hiddenDim, dim], ['ffn_up', hiddenDim, dim], ['ffn_down', dim, hiddenDim]] as const) matrix(`blk.${i}.${name}.weight`, rows, cols);
  }
  norm('output_norm.weight');
  const sizes: Record<string, number> = { block_count: nLayers, embedding_length: dim, feed_forward_length: hiddenDim, 'attention.head_count': 32, 'attention.head_count_kv': 4, 'rope.dimension_count': 64 };
  const entries = small.entries.map(([key, value]): [string, Raw] => {
    const size = sizes[key.replace(/^llama\./, '')];
    return [key, size === undefined ? value : num(size)];
  });
  const blocks = randomBlocks(type, 4096, 1), ones = new Uint8Array(new Float32Array(dim).fill(1).buffer), file = openSync(path, 'w');
  writeSync(file, ggufHeader({ ...small, entries, tensors }));
  for (const { type: id, bytes: { length } } of tensors) {
    for (let at = 0; at < length; at += blocks.length) writeSync(file, id === 0 ? ones : blocks, 0, Math.min(length - at, id === 0 ? ones.length : blocks.length));
  }
  closeSync(file);
}

test('a GGUF file, packed while it is loaded: at most 1.15 x packed + KV cache + 80 MB', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lutra-')), path = join(folder, 'model.gguf');
  try {
    writeGguf(path, 'Q4_0');
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script(path)], { timeout: 200_000 });
    const { peak, info: { packedBytes, loadSeconds, memoryBytes, kernels } } = JSON.parse(stdout);
    assert.ok(Object.keys(kernels).includes('uniform4-f16mid-lut8'), Object.keys(kernels).join());
    assert.ok(packedBytes > 500 * MB && peak > packedBytes, `${packedBytes}, ${peak}`);
    const bound = 1.15 * packedBytes + memoryBytes.kvPerSession + 80 * MB, shown = [packedBytes, memoryBytes.kvPerSession, memoryBytes.workspace, peak, bound].map(n => Math.round(n / MB));
    console.log(`packed ${shown[0]} MB at ${Math.round(statSync(path).size / loadSeconds / MB)} MB/s, KV cache ${shown[1]} MB, workspace ${shown[2]} MB, peak ${shown[3]} MB of ${shown[4]} MB`);
    assert.ok(peak <= bound, `${shown}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();

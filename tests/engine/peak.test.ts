// serial
/** A process that loads a model of 1.1 billion weights at 2 bits and generates with it: its memory at the peak. */
import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { writeGguf } from '../../bench/gguf.js';
import { shapes, synthetic, type Shape } from '../../bench/shapes.js';
import { importGguf } from '../../src/formats/gguf-model.js';
import { pack } from '../../src/pack/pack.js';
import { fileSink, openFile } from '../../src/platform/platform.js';
import { repoRoot, sharedDir } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';
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

const shared = sharedDir(), smollm = 'models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf';
/** Where a model is so small, Node itself counts: with two workers that do nothing 63 MB in Node 20, 77 in Node 24. */
const MB_OF_NODE = Number(process.versions.node.split('.')[0]) > 20 ? 90 : 80;

async function packSmollm(path: string): Promise<void> {
  const file = await openFile(join(shared!, smollm)), source = await importGguf(file);
  await pack(source, {}, await fileSink(path));
  await source.close();
}

for (const { what, factor, allowed = 80, least = 320, kernel, write } of [
  { what: 'packed, 2 bits', factor: 1.1, kernel: 'planes2-i16', write: (path: string) => writePacked(path, synthetic(shapes['1.1b']!, '2', 128, '8')) },
  { what: 'TQ2_0, packed while it is loaded', factor: 1.15, kernel: 'ternary', write: (path: string) => writeGguf(path, shapes['1.1b']!, 'TQ2_0') },
  ...shared ? [
    { what: 'SmolLM2-135M, packed while it is loaded', factor: 1.15, allowed: MB_OF_NODE, least: 90, kernel: 'uniform4-f16-lut8', write: async (path: string) => copyFileSync(join(shared, smollm), path) },
    { what: 'SmolLM2-135M, packed', factor: 1.15, allowed: MB_OF_NODE, least: 90, kernel: 'uniform4-f16-lut8', write: packSmollm },
  ] : [],
]) test(`${what}: at most ${factor} x packed + KV cache + ${allowed} MB`, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lutra-')), path = join(folder, 'model');
  try {
    await write(path);
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script(path)], { timeout: 100_000 });
    const { peak, completionTokens, info: { threads, memoryBytes, kernels, packedBytes: bytes } } = JSON.parse(stdout);
    assert.is(threads, 2);
    assert.ok(Object.keys(kernels).some(name => name.startsWith(kernel)), Object.keys(kernels).join());
    assert.is(completionTokens, 8);
    assert.ok(bytes > least * MB && peak > bytes, `${bytes}, ${peak}`);
    const bound = factor * bytes + memoryBytes.kvPerSession + allowed * MB, shown = [bytes, memoryBytes.kvPerSession, memoryBytes.workspace, peak, bound].map(n => Math.round(n / MB));
    console.log(`packed ${shown[0]} MB, KV cache ${shown[1]} MB, workspace ${shown[2]} MB, peak ${shown[3]} MB of ${shown[4]} MB`);
    assert.ok(peak <= bound, `${shown}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** `lutra run` in a process of its own, with the options that it has by itself. */
const command = (path: string) => `
  import { readFileSync } from 'node:fs';
  process.argv = ['node', 'run', ${JSON.stringify(path)}, '-p', 'Once upon a time', '-n', '8', '--json'];
  process.on('exit', () => console.error(process.platform === 'linux' ? /VmHWM:\\s*(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1] : process.resourceUsage().maxRSS));
  await import(${JSON.stringify(pathToFileURL(join(repoRoot, 'dist', 'cli.js')))});`;

async function checkRun(path: string, kernel: string, allowed: number): Promise<void> {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', command(path)], { timeout: 200_000 });
  const { completionTokens, info: { packedBytes, loadSeconds, memoryBytes, kernels } } = JSON.parse(stdout), peak = 1024 * Number(stderr.trim().split('\n').at(-1));
  assert.ok(kernel in kernels, Object.keys(kernels).join());
  assert.ok(completionTokens > 0 && peak > packedBytes, `${completionTokens}, ${packedBytes}, ${peak}`);
  const bound = 1.15 * packedBytes + memoryBytes.kvPerSession + allowed * MB, shown = [packedBytes, memoryBytes.kvPerSession, memoryBytes.workspace, peak, bound].map(n => Math.round(n / MB));
  console.log(`packed ${shown[0]} MB at ${Math.round(statSync(path).size / loadSeconds / MB)} MB/s, KV cache ${shown[1]} MB, workspace ${shown[2]} MB, peak ${shown[3]} MB of ${shown[4]} MB`);
  assert.ok(peak <= bound, `${shown}`);
}

// Large vocabularies may take more: 200 MB above 50000 tokens.
const wide: Shape = { dim: 512, hiddenDim: 1536, nLayers: 8, nHeads: 8, nHeadsKv: 4, vocabSize: 151936 };

for (const [name, shape, allowed] of [['1.1b', shapes['1.1b']!, 80], ['134m', shapes['134m']!, 80], ['150000 tokens', wide, 200]] as const) {
  test(`lutra run with a GGUF file of ${name}, packed while it is loaded: at most 1.15 x packed + KV cache + ${allowed} MB`, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lutra-')), path = join(folder, 'model.gguf');
    try {
      await writeGguf(path, shape, 'Q4_0');
      await checkRun(path, 'uniform4-f16mid-lut8', allowed);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

const name = 'lutra run with SmolLM2-135M: at most 1.15 x packed + KV cache + 80 MB';
if (shared) {
  test(name, () => checkRun(join(shared, smollm), 'uniform4-f16-lut8', 80));
} else {
  for (const one of [name, 'SmolLM2-135M, packed while it is loaded', 'SmolLM2-135M, packed']) skip(test, one, 'LUTRA_SHARED is not set');
}

test.run();

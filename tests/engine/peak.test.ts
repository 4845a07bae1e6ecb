// serial
/** A process that loads a model of 1.1 billion weights at 2 bits and generates with it: its memory at the peak. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { writeGguf } from '../../bench/gguf.js';
import { shapes, synthetic } from '../../bench/shapes.js';
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

// Models of few weights have less than that: a vocabulary of 32000 and a worker that packs take their room whatever the model's size.
for (const [name, allowed] of [['1.1b', 80], ['134m', 130]] as const) {
  test(`a GGUF file of ${name}, packed while it is loaded: at most 1.15 x packed + KV cache + ${allowed} MB`, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lutra-')), path = join(folder, 'model.gguf');
    try {
      await writeGguf(path, shapes[name]!, 'Q4_0');
      const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script(path)], { timeout: 200_000 });
      const { peak, info: { packedBytes, loadSeconds, memoryBytes, kernels } } = JSON.parse(stdout);
      assert.ok(Object.keys(kernels).includes('uniform4-f16mid-lut8'), Object.keys(kernels).join());
      assert.ok(peak > packedBytes, `${packedBytes}, ${peak}`);
      const bound = 1.15 * packedBytes + memoryBytes.kvPerSession + allowed * MB, shown = [packedBytes, memoryBytes.kvPerSession, memoryBytes.workspace, peak, bound].map(n => Math.round(n / MB));
      console.log(`packed ${shown[0]} MB at ${Math.round(statSync(path).size / loadSeconds / MB)} MB/s, KV cache ${shown[1]} MB, workspace ${shown[2]} MB, peak ${shown[3]} MB of ${shown[4]} MB`);
      assert.ok(peak <= bound, `${shown}`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

test.run();

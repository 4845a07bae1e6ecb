import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadModel, type LoadOptions, type LoadProgress, type ModelSource } from '../../src/index.js';
import { lutra, tinyFolder } from '../cli/lutra.js';
import { hfConfig, hfFolder, llamaTensors } from '../formats/hf-folder.js';
import { safetensors } from '../formats/synthetic.js';
import { startHub, type Hub } from '../helpers/hub.js';

const test = suite('sources of a model');
const config = { ...hfConfig, head_dim: 16, eos_token_id: [39] };
const source = hfFolder(config, llamaTensors(config));
const work = mkdtempSync(join(tmpdir(), 'lutra-sources-'));
const packedPath = join(work, 'tiny.lutra.safetensors'), cache = join(work, 'cache');
/** `expected`: of the packed file; `imported`: of the folder packed while it is loaded, which spares the columns' scales. */
let packed: Buffer, hub: Hub, expected: number[], imported: number[];

const quick = { threads: 1 } as const;
async function answer(from: ModelSource, options: LoadOptions = {}): Promise<number[]> {
  await using model = await loadModel(from, { ...quick, ...options });
  return (await model.generate('ABC', { temperature: 0, maxTokens: 8 }).result).ids;
}
const files = () => readdirSync(cache, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile()).map(entry => entry.name).sort();

test.before(async () => {
  assert.is((await lutra(['quantize', source.path, '-o', packedPath, '--bits', '4', '--group', '32'])).code, 0);
  packed = readFileSync(packedPath);
  expected = await answer(packedPath);
  imported = await answer(source.path, { weights: 4, groupSize: 32 });
  const content = ['config.json', 'tokenizer.json', 'model.safetensors'].map(name => [name, readFileSync(join(source.path, name))]);
  hub = await startHub('org/tiny', Object.fromEntries(content));
  hub.files.set('packed/tiny.lutra.safetensors', { bytes: packed, lfs: true });
});
test.before.each(() => {
  Object.assign(process.env, { LUTRA_CACHE: cache, HF_ENDPOINT: hub?.endpoint, HF_TOKEN: '' });
  rmSync(cache, { recursive: true, force: true });
});
test.after(async () => {
  await hub.close();
  source.remove();
  rmSync(work, { recursive: true });
});

test('bytes, a Blob, a File, a stream: packed', async () => {
  const stream = () => new ReadableStream<Uint8Array>({
    start(controller) {
      for (let at = 0; at < packed.length; at += 1000) controller.enqueue(packed.subarray(at, at + 1000));
      controller.close();
    },
  });
  const bytes = new Uint8Array(packed);
  for (const from of [bytes, bytes.buffer, new Blob([bytes]), new File([bytes], 'tiny.safetensors'), stream()]) assert.equal(await answer(from), expected);
});

test('a stream that breaks, bytes of nothing, half a file: typed errors or the stream\'s own', async () => {
  const broken = new ReadableStream<Uint8Array>({ pull: controller => controller.error(new Error('gone')) });
  assert.is(await answer(broken).catch(error => error.message), 'gone');
  for (const from of [new Blob([]), new Blob([new Uint8Array(packed.subarray(0, packed.length / 2))]), new Uint8Array(packed.subarray(0, 5000))]) {
    assert.is(await answer(from).catch(error => error.code), 'BAD_MODEL_FILE');
  }
});

test('a URL and a name on the hub: downloaded, later found without the server', async () => {
  const phases: LoadProgress[] = [], name = 'hf:org/tiny/packed/tiny.lutra.safetensors';
  assert.equal(await answer(name, { onProgress: progress => phases.push(progress) }), expected);
  const last = phases.filter(({ phase }) => phase === 'download').at(-1)!;
  assert.equal([last.loaded, last.total], [packed.length, packed.length]);
  assert.equal(await answer(new URL(`${hub.endpoint}/org/tiny/resolve/main/packed/tiny.lutra.safetensors`)), expected);
  hub.requests.length = 0;
  assert.equal(await answer(name), expected);
  assert.is(hub.requests.length, 0);
});

test('a repository of safetensors: downloaded, packed, kept at each level', async () => {
  hub.files.delete('packed/tiny.lutra.safetensors');
  const phases = new Set<string>();
  assert.equal(await answer('hf:org/tiny', { weights: 4, groupSize: 32, onProgress: ({ phase }) => phases.add(phase) }), imported);
  assert.equal([...phases], ['download', 'pack', 'load']);
  hub.requests.length = 0;
  phases.clear();
  assert.equal(await answer('hf:org/tiny', { weights: 4, groupSize: 32, onProgress: ({ phase }) => phases.add(phase) }), imported);
  assert.equal([...phases], ['load']);
  assert.ok((await answer('hf:org/tiny', { weights: 8 })).length > 0);
  assert.is(hub.requests.length, 0);
  assert.is(files().filter(file => file.endsWith('.lutra.safetensors')).length, 2);
  hub.files.set('packed/tiny.lutra.safetensors', { bytes: packed, lfs: true });
});

test('abort while downloading: its reason, a part, no entry; the next start goes on', async () => {
  hub.faults = { cuts: Array(40).fill(packed.length / 20 | 0) };
  const controller = new AbortController(), name = 'hf:org/tiny/packed/tiny.lutra.safetensors';
  const error = await answer(name, { signal: controller.signal, onProgress: ({ phase }) => { if (phase === 'download') controller.abort(new Error('enough')); } }).catch(error => error);
  assert.is(error.message, 'enough');
  assert.equal(files().map(file => file.replace(/[0-9a-f]{16}/, '')), ['tiny.lutra.safetensors..part']);
  hub.faults = {};
  assert.equal(await answer(name), expected);
});

test('a model beyond all memory: refused by its header, before its weights are fetched', async () => {
  const big = { ...config, hidden_size: 2 ** 15, intermediate_size: 2 ** 20, num_hidden_layers: 2, num_attention_heads: 256, num_key_value_heads: 256, head_dim: 128, vocab_size: 40 };
  const tensors = Object.fromEntries(Object.entries(llamaTensors(hfConfig)).map(([name, { dtype }]) => {
    const { hidden_size: dim, intermediate_size: hidden } = big;
    const shape = name.includes('norm') ? [dim] : name.includes('embed') ? [40, dim] : name.includes('mlp') ? name.includes('down') ? [dim, hidden] : [hidden, dim] : [dim, dim];
    return [name, { dtype, shape, bytes: 2 * shape.reduce((a, b) => a * b) }];
  }));
  const header = JSON.stringify(Object.fromEntries(Object.entries(tensors).map(([name, { dtype, shape, bytes }], i, all) => {
    const begin = all.slice(0, i).reduce((sum, [, tensor]) => sum + tensor.bytes, 0);
    return [name, { dtype, shape, data_offsets: [begin, begin + bytes] }];
  })));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const bytes = Buffer.concat([length, Buffer.from(header)]);
  const other = await startHub('org/big', {
    'config.json': Buffer.from(JSON.stringify(big)), 'tokenizer.json': readFileSync(join(source.path, 'tokenizer.json')),
    'model.safetensors': { bytes, lfs: true, size: bytes.length + Object.values(tensors).reduce((sum, tensor) => sum + tensor.bytes, 0) },
  });
  process.env.HF_ENDPOINT = other.endpoint;
  const error = await answer('hf:org/big', { weights: 'f32' }).catch(error => error);
  const fetched = other.requests.filter(request => request.host === 'store').reduce((sum, request) => sum + request.sent, 0);
  await other.close();
  assert.is(error.code, 'OUT_OF_MEMORY', error.stack);
  assert.ok(error.needed > error.available && fetched < 2 ** 20, `${fetched} bytes fetched`);
});

test('the command line: run, inspect, tokenize, quantize, cache', async () => {
  const env = { LUTRA_CACHE: cache, HF_ENDPOINT: hub.endpoint };
  hub.requests.length = 0;
  const inspected = await lutra(['inspect', 'hf:org/tiny/packed/tiny.lutra.safetensors', '--json'], { env });
  assert.is(JSON.parse(inspected.stdout).packed, true, inspected.stderr);
  assert.is((await lutra(['tokenize', 'hf:org/tiny/packed/tiny.lutra.safetensors', '-p', 'AB', '--json'], { env })).stdout, '{"ids":[0,1,2],"pieces":["<bos>","A","B"]}\n');
  assert.ok(hub.requests.reduce((sum, request) => sum + request.sent, 0) < packed.length, 'looking at a header costs less than the file');
  assert.is((await lutra(['cache', '--json'], { env })).stdout, `${JSON.stringify({ folder: cache, removed: false, entries: [] })}\n`);

  hub.files.delete('packed/tiny.lutra.safetensors');
  const run = ['run', 'hf:org/tiny', '--bits', '4', '--group', '32', '-p', 'ABC', '-n', '8', '--temp', '0', '-t', '1', '--json'];
  const first = await lutra(run, { env });
  assert.equal(JSON.parse(first.stdout).ids, imported, first.stderr);
  const offline = { ...env, HF_ENDPOINT: hub.endpoint };
  hub.faults = { statuses: Array(100).fill(500) };
  const second = await lutra(run, { env: offline });
  assert.is(second.code, 0, second.stderr);
  assert.equal(JSON.parse(second.stdout).ids, imported);
  assert.is((await lutra(['quantize', 'hf:org/tiny', '-o', join(work, 'again'), '--bits', '4', '--group', '32'], { env: offline })).code, 0);
  assert.ok(readFileSync(join(work, 'again')).equals(packed));
  hub.faults = {};
  assert.match((await lutra(['cache'], { env })).stdout, /model\.safetensors\n/);
  await lutra(['cache', 'clear', 'org/tiny'], { env });
  assert.equal(files(), []);
  const missing = await lutra(['run', 'hf:org/none'], { env });
  assert.is(missing.code, 75);
  assert.match(missing.stderr, /HTTP status 404\nCheck the name/);
});

test('an unpacked model of bytes needs what its format needs', async () => {
  const { folder, model } = tinyFolder();
  const bytes = new Uint8Array(readFileSync(model));
  assert.is(await answer(bytes, { weights: 8 }).catch(error => error.argument), 'tokenizer');
  assert.ok((await answer(new Blob([bytes]), { weights: 8, tokenizer: join(folder, 'tokenizer.bin') })).length > 0);
  rmSync(folder, { recursive: true });
  assert.is(await answer(new Uint8Array(safetensors(llamaTensors(), { format: 'pt' }))).catch(error => error.code), 'UNSUPPORTED_FORMAT');
});

test.run();

import { execFile } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BadArgumentError, BadModelFileError, DisposedError, FileAccessError, loadModel } from 'lutra';
import { lutra, shape, tinyFolder } from '../cli/lutra.js';
import { bitnetConfig, bitnetTensors, hfConfig, hfFolder, llamaTensors } from '../formats/hf-folder.js';
import { f32Tensor, floats } from '../formats/synthetic.js';
import { repoRoot } from '../helpers/paths.js';

const test = suite('the package on real kernels');
const { folder, model: path } = tinyFolder();
const packed = join(folder, 'packed.safetensors');
const greedy = { temperature: 0, maxTokens: 12, hashLogits: true } as const;
const prompt = Array.from({ length: 70 }, (_, i) => 3 + (i * 37) % 259);

test.before(async () => {
  const { code, stderr } = await lutra(['quantize', path, '-o', packed, '--bits', '4', '--group', '32']);
  assert.is(code, 0, stderr);
});
test.after(() => rmSync(folder, { recursive: true }));

test('path, URL and bytes are the same model', async () => {
  const answers: string[] = [];
  for (const source of [packed, pathToFileURL(packed), readFileSync(packed), new Uint8Array(readFileSync(packed)).buffer]) {
    await using model = await loadModel(source, { threads: 1 });
    const { logitsHash, ids } = await model.generate(prompt, greedy).result;
    answers.push(`${logitsHash} ${ids}`);
    assert.is(model.info().threads, 1);
    assert.ok(Object.keys(model.info().kernels).some(name => name.startsWith('planes4')));
  }
  assert.is(new Set(answers).size, 1);
});

test('a prompt at once, in pieces, token by token: the same logits', async () => {
  await using model = await loadModel(packed, { threads: 1, maxSessions: 4 });
  const whole = await model.generate(prompt, greedy).result;
  for (const size of [1, 3, 64]) {
    await using session = await model.createSession();
    for (let at = 0; at < prompt.length; at += size) await session.append(prompt.slice(at, at + size));
    const { logitsHash, ids, cachedTokens } = await session.generate(null, greedy).result;
    assert.is(cachedTokens, prompt.length - 1);
    assert.equal(ids, whole.ids, `pieces of ${size}`);
    assert.is(logitsHash, whole.logitsHash, `pieces of ${size}`);
  }
});

test('a reused prefix changes nothing', async () => {
  await using model = await loadModel(packed, { threads: 1 });
  const fresh = await model.generate([...prompt, 5, 6], greedy).result;
  await using session = await model.createSession();
  await session.generate([...prompt, 200, 201, 202], greedy).result;
  const reused = await session.generate([...prompt, 5, 6], greedy).result;
  assert.is(reused.cachedTokens, prompt.length);
  assert.is(reused.logitsHash, fresh.logitsHash);
  await session.truncate(10);
  assert.is((await session.generate([...prompt, 5, 6], greedy).result).logitsHash, fresh.logitsHash);
});

test('scores agree with greedy choice and with the logits', async () => {
  await using model = await loadModel(packed, { threads: 1 });
  const { logProbabilities, logits } = await model.score(prompt, { logits: true, from: 60 });
  assert.is(logProbabilities.length, 9);
  assert.is(logits!.length, 10);
  for (const [i, row] of logits!.slice(0, -1).entries()) {
    const top = Math.max(...row);
    const expected = row[prompt[61 + i]!]! - top - Math.log(row.reduce((sum, value) => sum + Math.exp(value - top), 0));
    assert.ok(Math.abs(expected - logProbabilities[i]!) < 1e-5);
  }
  const [first] = (await model.generate(prompt, { ...greedy, maxTokens: 1 }).result).ids;
  if (first !== undefined) assert.is(first, logits!.at(-1)!.indexOf(Math.max(...logits!.at(-1)!)));
});

test('Hugging Face folders: 8 bits, ternary where the model is', async () => {
  const llama = { ...hfConfig, head_dim: 16 }, bitnet = { ...bitnetConfig, head_dim: 16 };
  for (const [config, tensors, level] of [[llama, llamaTensors(llama), 'int8'], [bitnet, { ...bitnetTensors(bitnet), 'model.layers.0.self_attn.attn_sub_norm.weight': f32Tensor([48], floats(48, 90)) }, 'ternary']] as const) {
    const source = hfFolder(config, tensors);
    await using model = await loadModel(source.path, { threads: 1 });
    assert.ok(Object.keys(model.info().kernels).some(name => name.startsWith(level)), Object.keys(model.info().kernels).join());
    const { promptIds, completionTokens } = await model.generate('HELLO', { temperature: 0, maxTokens: 5 }).result;
    assert.equal(promptIds, [0, 8, 5, 12, 12, 15]);
    assert.ok(completionTokens <= 5);
    source.remove();
  }
});

/** The least of up to five measurements, in milliseconds: what the code does when the machine lets it. */
async function least(enough: number, measure: () => Promise<number>): Promise<number> {
  let best = Infinity;
  for (let i = 0; i < 5 && best >= enough; i++) best = Math.min(best, await measure());
  return best;
}

test('errors arrive as the classes that are exported', async () => {
  const cases = [
    [join(folder, 'nowhere'), FileAccessError], [join(repoRoot, 'package.json'), BadModelFileError],
    ['hf:nothing', BadArgumentError], [new Uint8Array(100), BadModelFileError],
  ] as const;
  for (const [source, kind] of cases) {
    const error = await loadModel(source).then(() => null, error => error);
    assert.instance(error, kind);
    assert.ok(error.hint.length > 5);
  }
});

test('aborts: while loading, while generating', async () => {
  const reason = new Error('enough');
  const loading = new AbortController();
  const load = loadModel(path, { weights: 4, signal: loading.signal });
  loading.abort(reason);
  assert.is(await load.catch(error => error), reason);

  const long = tinyFolder({ contextLength: 50_000 });
  {
    await using model = await loadModel(long.model, { threads: 1, context: 50_000, weights: 'f32' });
    const late = await least(50, async () => {
      const controller = new AbortController();
      const run = model.generate(Array.from({ length: 40_000 }, (_, i) => 3 + i % 200), { signal: controller.signal });
      let aborted = Infinity;
      setTimeout(() => { aborted = performance.now(); controller.abort(reason); }, 200);
      assert.is(await run.result.catch(error => error), reason);
      return performance.now() - aborted;
    });
    assert.ok(late > 0 && late < 50, `${late} ms`);
    assert.is((await model.generate(prompt, { maxTokens: 1 }).result).promptTokens, prompt.length);
  }
  rmSync(long.folder, { recursive: true });
});

test('the calling thread is not blocked', async () => {
  await using model = await loadModel(path, { threads: 1, weights: 'f32' });
  const longest = await least(50, async () => {
    let longest = 0, last = performance.now();
    const timer = setInterval(() => { longest = Math.max(longest, performance.now() - last); last = performance.now(); }, 2);
    for (let i = 0; i < 20; i++) await model.score(prompt.concat(prompt.slice(0, shape.contextLength - 70)));
    clearInterval(timer);
    return longest;
  });
  assert.ok(longest < 50, `${longest} ms`);
});

test('a disposed model refuses, and a forgotten one does not keep the process', async () => {
  const model = await loadModel(packed, { threads: 1 });
  await model.dispose();
  assert.instance(await model.tokenize('a').catch(error => error), DisposedError);
  const script = join(folder, 'script.mjs');
  writeFileSync(script, `import { loadModel } from ${JSON.stringify(pathToFileURL(join(repoRoot, 'dist', 'index.js')))};
    const model = await loadModel(${JSON.stringify(packed)}, { threads: 1 });
    console.log((await model.generate('ab', { maxTokens: 3, seed: 1 }).result).finishReason);`);
  const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: 10_000 });
  assert.match(stdout, /length|stop/);
});

test.run();

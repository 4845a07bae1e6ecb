import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { lutra, shape, tinyFolder } from './lutra.js';

const test = suite('command line');
const { folder, model } = tinyFolder();
const packed = join(folder, 'packed.safetensors');
const quick = ['-t', '1', '-n', '12', '--temp', '0'];

test.after(() => rmSync(folder, { recursive: true }));

test('quantize: a file, its sizes, nothing else on stdout', async () => {
  const { code, stdout } = await lutra(['quantize', model, '-o', packed, '--bits', '4', '--group', '32', '--json']);
  assert.is(code, 0);
  const stats = JSON.parse(stdout);
  assert.equal(Object.keys(stats), ['bytesIn', 'bytesOut', 'bitsPerWeight', 'bitsPerWeightAt2048']);
  assert.is(stats.bytesIn, readFileSync(model).length);
  assert.is(stats.bytesOut, readFileSync(packed).length);
  assert.ok(stats.bitsPerWeight > 4);
});

test('quantize: calibrated, in bits that differ; what cannot be is said', async () => {
  const text = join(folder, 'calibration.json'), output = join(folder, 'calibrated.safetensors');
  writeFileSync(text, JSON.stringify(['ab ba'.repeat(20), 'b a b']));
  const { code, stdout, stderr } = await lutra(['quantize', model, '-o', output, '--bits', '2.5', '--group', '32', '--calibration', text, '-t', '1', '--json']);
  assert.is(code, 0, stderr);
  const { bytesOut, bitsPerWeight, bitsPerWeightAt2048 } = JSON.parse(stdout);
  assert.is(bytesOut, readFileSync(output).length);
  assert.ok(bitsPerWeight > bitsPerWeightAt2048 && bitsPerWeightAt2048 > 2.3 && bitsPerWeightAt2048 < 3.2, stdout);
  assert.is((await lutra(['eval', output, '-t', '1', '--documents', text, '--json'])).code, 0);
  for (const args of [['--bits', '2.5'], ['--size', '1MB'], ['--bits', '1.5'], ['--bits', '2', '--method', 'best'], ['--bits', '2', '--method', 'hlq', '--calibration', text]]) {
    const refused = await lutra(['quantize', model, '-o', output, ...args]);
    assert.is(refused.code, 2, args.join(' '));
  }
});

test('run --json: one object with these fields', async () => {
  const { code, stdout, stderr } = await lutra(['run', packed, '-p', 'ab', ...quick, '--json']);
  assert.is(code, 0, stderr);
  assert.is(stdout.trim().split('\n').length, 1);
  const result = JSON.parse(stdout);
  for (const field of ['text', 'promptIds', 'ids', 'finishReason', 'promptTokens', 'completionTokens', 'prefillTokensPerSecond', 'decodeTokensPerSecond', 'logitsHash', 'info']) {
    assert.ok(field in result, field);
  }
  assert.is(result.promptIds[0], 1);
  assert.is(result.ids.length, result.completionTokens);
  assert.match(result.logitsHash, /^[0-9a-f]{16}$/);
  assert.is(result.info.threads, 1);
  assert.is(result.info.level, 'kernels');
  assert.is(stderr, '');
});

test('run: text on stdout, the summary on stderr', async () => {
  const json = JSON.parse((await lutra(['run', packed, '-p', 'ab', ...quick, '--json'])).stdout);
  const { code, stdout, stderr } = await lutra(['run', '-m', packed, '-p', 'ab', ...quick]);
  assert.is(code, 0);
  assert.is(stdout, `ab${json.text}\n`);
  assert.match(stderr, /\d+ tokens at [\d.]+ tokens\/s/);
  assert.match(stderr, /-s \d+/);
  assert.not.match(stderr, /\x1b/);
  assert.is((await lutra(['run', packed, '-p', 'ab', '--no-display-prompt', ...quick])).stdout, `${json.text}\n`);
});

test('run: the reported seed gives the same text', async () => {
  const args = ['run', model, '--weights', 'f32', '-t', '1', '-n', '20', '--json'];
  const one = JSON.parse((await lutra(args)).stdout);
  const two = JSON.parse((await lutra([...args, '-s', String(one.seed)])).stdout);
  assert.equal(two.ids, one.ids);
  assert.is(two.logitsHash, one.logitsHash);
});

test('eval: against a reference, and a table with a plot', async () => {
  const text = join(folder, 'reference.txt'), page = join(folder, 'plot.html');
  writeFileSync(text, 'ab ba'.repeat(60));
  const common = ['-t', '1', '--text', text, '--ctx', '32', '--chunks', '2', '--json'];
  const same = JSON.parse((await lutra(['eval', packed, ...common, '--reference', packed])).stdout);
  assert.equal(Object.keys(same), ['tokens', 'crossEntropy', 'perplexity', 'klMean', 'kl99', 'top1Agreement']);
  assert.equal([same.klMean, same.kl99, same.top1Agreement], [0, 0, 1]);
  const { code, stdout, stderr } = await lutra(['eval', packed, model, ...common, '--reference', model, '--table', '--plot', page]);
  assert.is(code, 0, stderr);
  const [first, second] = JSON.parse(stdout).models;
  assert.ok(first.klMean > 0.001 && first.klMean < first.kl99 && first.top1Agreement < 1, JSON.stringify(first));
  assert.ok(first.bitsPerWeight > 4 && first.tokensPerSecond > 0 && first.bytes === readFileSync(packed).length);
  assert.is(second.bitsPerWeight, null);
  assert.ok(second.klMean < first.klMean);
  const html = readFileSync(page, 'utf8');
  assert.match(html, /packed\.safetensors/);
  assert.not.match(html, /src=|href=/);
  assert.is((await lutra(['eval', packed, model, ...common])).code, 2);
});

test('eval: documents from their own start, text in windows', async () => {
  const documents = join(folder, 'documents.json');
  writeFileSync(documents, JSON.stringify(['abab', 'b', 'a'.repeat(1000)]));
  const first = JSON.parse((await lutra(['eval', model, '-t', '1', '--weights', 'f32', '--documents', documents, '--json'])).stdout);
  assert.equal(Object.keys(first), ['tokens', 'crossEntropy', 'perplexity']);
  // BOS and a leading space come first; the last document is cut at the context.
  assert.is(first.tokens, 5 + 2 + shape.contextLength - 1);
  assert.ok(Math.abs(Math.exp(first.crossEntropy) / first.perplexity - 1) < 1e-12);

  const text = join(folder, 'text.txt');
  writeFileSync(text, 'ab'.repeat(150));
  const windows = ['eval', packed, '-t', '1', '--text', text, '--ctx', '32', '--json'];
  assert.is(JSON.parse((await lutra(windows)).stdout).tokens, 9 * 15);
  const rounded = JSON.parse((await lutra([...windows, '--chunks', '2'])).stdout);
  assert.is(rounded.tokens, 2 * 15);
  const exact = JSON.parse((await lutra([...windows, '--chunks', '2', '--activations', 'f32'])).stdout);
  assert.ok(Math.abs(exact.crossEntropy - rounded.crossEntropy) < 0.1 && exact.crossEntropy !== rounded.crossEntropy);
});

test('--requantize and --bits are other names of --weights', async () => {
  const args = (name: string) => ['run', model, name, '4', '-p', 'ab', ...quick, '--json'];
  const hashes = await Promise.all(['--weights', '--bits', '--requantize'].map(async name => JSON.parse((await lutra(args(name))).stdout).logitsHash));
  assert.equal(new Set(hashes).size, 1);
  assert.is((await lutra([...args('--bits'), '--requantize', '4'])).code, 2);
});

test('inspect: packed and not', async () => {
  for (const [file, isPacked] of [[packed, true], [model, false]] as const) {
    const report = JSON.parse((await lutra(['inspect', file, '--json'])).stdout);
    assert.is(report.packed, isPacked);
    assert.is(report.config.dim, shape.dim);
    assert.ok(report.tensors.length > 10);
    assert.is(report.memory.kvPerSession, 2 * 4 * shape.nLayers * shape.nHeadsKv * 8 * shape.contextLength);
    assert.ok(report.bitsPerWeight > 2 && report.bitsPerWeight < 12, `${report.bitsPerWeight}`);
    assert.ok(report.memory.weights > 0);
    assert.is(report.level, isPacked ? null : 8);
    assert.match((await lutra(['inspect', file])).stdout, /layers\.1\.ffn\.down/);
  }
});

test('every command has help with an example', async () => {
  for (const command of [[], ['run'], ['chat'], ['quantize'], ['eval'], ['inspect'], ['tokenize']]) {
    const { code, stdout } = await lutra([...command, '--help']);
    assert.is(code, 0);
    assert.match(stdout, /Example:\n {2}lutra /);
  }
});

const cut = join(folder, 'cut.bin');
writeFileSync(cut, readFileSync(model));
truncateSync(cut, 5000);
const notJson = join(folder, 'not.json');
writeFileSync(notJson, '{');
const failures: [code: number, message: RegExp, ...args: string[]][] = [
  [2, /unknown option/, 'run', model, '--bogus'],
  [2, /unknown command/, 'bogus'],
  [2, /not a whole number/i, 'run', model, '-n', 'many'],
  [2, /given twice/, 'run', model, '-m', model],
  [2, /what text/, 'eval', model],
  [2, /cannot be used with/, 'eval', model, '--text', 'a', '--documents', 'b'],
  [2, /--output/, 'quantize', model],
  [2, /Allowed: 1, 2/, 'quantize', model, '-o', join(folder, 'x'), '--bits', '5'],
  [2, /packed already/, 'quantize', packed, '-o', join(folder, 'x')],
  [2, /weights: the model is packed already/, 'run', packed, '--weights', '4'],
  [2, /context: 1000 is out of range/, 'run', packed, '-c', '1000'],
  [2, /temperature: -1/, 'run', packed, '-t', '1', '--temp', '-1'],
  [2, /not\.json is not JSON/, 'eval', packed, '-t', '1', '--documents', notJson],
  [65, /cut\.bin: /, 'run', cut],
  [65, /cut\.bin: /, 'inspect', cut],
  [65, /magic/, 'run', notJson],
  [66, /no such file/, 'run', join(folder, 'nowhere')],
  [66, /nowhere/, 'eval', packed, '-t', '1', '--text', join(folder, 'nowhere')],
  [66, /nowhere/, 'quantize', model, '-o', join(folder, 'nowhere', 'x')],
  [1, /do not fit into a context of 8/, 'run', packed, '-t', '1', '-c', '8', '-p', 'abababab'],
];
for (const [code, message, ...args] of failures) {
  test(`exit code ${code}: lutra ${args.map(arg => arg.replace(folder, '')).join(' ')}`, async () => {
    const begin = performance.now();
    const outcome = await lutra(args);
    assert.is(outcome.code, code, outcome.stderr);
    assert.match(outcome.stderr, message);
    assert.is(outcome.stdout, '');
    assert.not.match(outcome.stderr, /\n\s+at /);
    assert.ok(outcome.stderr.trim().split('\n').length >= 2 || code === 2, 'no hint');
    assert.ok(performance.now() - begin < 10_000);
  });
}

test('LUTRA_DEBUG shows the stack', async () => {
  assert.match((await lutra(['run', join(folder, 'nowhere')], { env: { LUTRA_DEBUG: '1' } })).stderr, /\n\s+at /);
});

test('nothing half-written is left', async () => {
  await lutra(['quantize', cut, '-o', join(folder, 'partial')]);
  assert.equal(readdirSync(folder).filter(name => name.includes('partial') || name.endsWith('.tmp')), []);
});

test.run();

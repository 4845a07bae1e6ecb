import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runtime } from '../../build/runtimes.mjs';
import { hfConfig, hfFolder, llamaTensors, tokenizerJson } from '../formats/hf-folder.js';
import { sharedDir } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';
import { lutra, tinyFolder } from './lutra.js';

const test = suite('lutra chat, run, tokenize');
const shared = sharedDir();

/** A model of random weights that knows how a chat is written. */
const config = { ...hfConfig, head_dim: 16, eos_token_id: [39], max_position_embeddings: 100_000 };
const tensors = llamaTensors(config);
// <end> is never the likeliest token: answers go on.
tensors['model.embed_tokens.weight']!.bytes.fill(0, 2 * 39 * config.hidden_size);
const instruct = hfFolder(config, tensors, { ...tokenizerJson, added_tokens: [{ id: 0, content: '<bos>', special: true }, { id: 39, content: '<end>', special: true }] });
instruct.write('tokenizer_config.json', {
  bos_token: '<bos>', eos_token: { content: '<end>' },
  chat_template: '{% for m in messages %}{% if m.role == "system" and m.content == "" %}{{ raise_exception("no system") }}{% endif %}{{ m.content }}<end>{% endfor %}B',
});
const output = mkdtempSync(join(tmpdir(), 'lutra-chat-'));
const packed = join(output, 'packed.safetensors');
test.before(async () => { assert.is((await lutra(['quantize', instruct.path, '-o', packed, '--bits', '8'])).code, 0); });
test.after(() => {
  instruct.remove();
  rmSync(output, { recursive: true });
});
const quick = ['-t', '1', '-n', '5', '--temp', '0'];

test('chat: a line is a turn; the template comes along into the packed file', async () => {
  const said = ['AB', 'C', '/reset', 'AB', '/system AA', 'AB', '', `/save ${join(output, 'saved.json')}`, '/nonsense', '/help'].join('\n');
  for (const model of [instruct.path, packed]) {
    const { code, stdout, stderr } = await lutra(['chat', model, ...quick, '--weights', '8', '--json'].filter((arg, i, all) => model !== packed || !(arg === '--weights' || all[i - 1] === '--weights')), { input: said });
    assert.is(code, 0, stderr);
    const [first, second, again, other] = stdout.trim().split('\n').map(line => JSON.parse(line));
    assert.equal(again.ids, first.ids);
    assert.is(first.promptIds.length, 5);
    assert.is(first.promptIds[0], 0);
    assert.ok(second.cachedTokens >= first.promptTokens - 1, `${second.cachedTokens} of ${second.promptTokens}`);
    assert.is(other.promptTokens, first.promptTokens + 3);
    const saved = JSON.parse(readFileSync(join(output, 'saved.json'), 'utf8'));
    assert.equal(saved, [{ role: 'system', content: 'AA' }, { role: 'user', content: 'AB' }, { role: 'assistant', content: other.text }]);
    assert.match(stderr, /\/nonsense is not known/);
    assert.match(stderr, /\/save FILE/);
  }
});

test('chat: text on stdout, nothing else', async () => {
  const answers = (await lutra(['chat', packed, ...quick, '--json'], { input: 'AB\nC' })).stdout.trim().split('\n').map(line => JSON.parse(line).text);
  assert.is((await lutra(['chat', packed, ...quick], { input: 'AB\nC\n' })).stdout, answers.map(text => `${text}\n`).join(''));
});

for (const name of ['node-22', 'node-24', 'node-26']) {
  const found = await runtime(name);
  if ('missing' in found) skip(test, `chat: piped input in ${name}`, found.missing);
  else test(`chat: piped input in ${name}`, async () => {
    const { code, stdout, stderr } = await lutra(['chat', packed, ...quick], { input: 'AB\nC\n', node: found.command });
    assert.is(code, 0, stderr);
    assert.is(stdout.trim().split('\n').length, 2);
  });
}

test('chat: Ctrl-C stops the answer and not the program', async () => {
  const { code, stdout } = await lutra(['chat', packed, '-t', '1', '-c', '100000', '--temp', '0'], {
    during(child) {
      setTimeout(() => child.kill('SIGKILL'), 100_000).unref();
      child.stdin!.write('A\n');
      let seen = '', stops = 0;
      child.stdout!.on('data', text => {
        seen += text;
        const lines = seen.split('\n');
        if (stops === 0 && lines[0]!.length > 200) stops = child.kill('SIGINT') ? 1 : 0;
        else if (stops === 1 && lines.length > 1) {
          // The program goes on; between answers Ctrl-C ends it where nobody sits at a terminal.
          stops = 2;
          setTimeout(() => child.kill('SIGINT'), 200);
        }
      });
    },
  });
  assert.is(code, 130);
  assert.match(stdout, /^.{200,}\n$/);
});

test('run: an instruct model answers, unless --raw', async () => {
  const json = async (...args: string[]) => JSON.parse((await lutra(['run', packed, '-p', 'AB', ...quick, '--json', ...args])).stdout);
  const answered = await json(), raw = await json('--raw');
  assert.is(answered.promptTokens, 5);
  assert.is(raw.promptTokens, 3);
  assert.is((await lutra(['run', packed, '-p', 'AB', ...quick])).stdout, `${answered.text}\n`);
});

test('a model without a template says so', async () => {
  const { folder, model } = tinyFolder();
  const { code, stderr } = await lutra(['chat', model, '-t', '1'], { input: 'a\n' });
  rmSync(folder, { recursive: true });
  assert.is(code, 65);
  assert.match(stderr, /has no chat template/);
});

test('tokenize: ids and pieces, special tokens where asked for', async () => {
  const json = async (...args: string[]) => JSON.parse((await lutra(['tokenize', packed, '-p', 'A<end>', '--json', ...args])).stdout);
  assert.equal(await json('--special'), { ids: [0, 1, 39], pieces: ['<bos>', 'A', '<end>'] });
  assert.not.ok((await json()).pieces.includes('<end>'));
  assert.is((await lutra(['tokenize', instruct.path, '-p', 'BC'])).stdout, '0  "<bos>"\n2  "B"\n3  "C"\n');
  const file = join(output, 'text');
  writeFileSync(file, 'BC');
  assert.is((await lutra(['tokenize', instruct.path, '-f', file, '--no-bos'])).stdout, '2  "B"\n3  "C"\n');
  assert.is((await lutra(['tokenize', packed])).code, 2);
});

if (!shared) {
  skip(test, 'vocabulary-only files', 'LUTRA_SHARED is not set');
  skip(test, 'SmolLM2 knows the capital of France', 'LUTRA_SHARED is not set');
} else {
  test('tokenize: vocabulary-only files', async () => {
    const data = join(shared, 'data/tokenizers');
    for (const name of ['ggml-vocab-llama-bpe.gguf', 'ggml-vocab-llama-spm.gguf']) {
      const texts = readFileSync(join(data, `${name}.inp`), 'utf8').split('\n__ggml_vocab_test__\n'), ids = readFileSync(join(data, `${name}.out`), 'utf8').split('\n');
      const i = texts.findIndex(text => text.includes('🦙')) >>> 0;
      const { stdout } = await lutra(['tokenize', join(data, name), '--json', '--no-bos', '-p', texts[i] ?? texts[1]!]);
      assert.is(JSON.parse(stdout).ids.join(' '), ids[i in texts ? i : 1]!.trim());
    }
  });

  test('SmolLM2 knows the capital of France', async () => {
    const { code, stdout, stderr } = await lutra(['chat', join(shared, 'models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf'), '-t', '2', '--temp', '0', '-n', '40'],
      { input: 'What is the capital of France?\n' });
    assert.is(code, 0, stderr);
    assert.match(stdout, /Paris/);
  });
}

const script = spawnSync('script', ['--version']).status === 0;
if (!script) skip(test, 'chat in a terminal', 'the program `script` is not installed');
else {
  test('chat in a terminal: a prompt, Ctrl-C for an answer, Ctrl-D for the end', async () => {
    const { code, stdout } = await lutra(['chat', packed, '-t', '1', '-c', '100000', '--temp', '0'], {
      terminal: true,
      during(child) {
        let seen = '', step = 0;
        setTimeout(() => child.kill(), 100_000).unref();
        // The answer would take minutes.
        const steps: [RegExp, string][] = [[/lists more/, 'A\r'], [/> [\s\S]*[@-g]{200}/, '\x03'], [/tokens at/, '\x03'], [/once more/, '\x04']];
        child.stdout!.on('data', text => {
          seen += text;
          if (step < steps.length && steps[step]![0].test(seen)) child.stdin!.write(steps[step++]![1]);
        });
      },
    });
    assert.is(code, 0, stdout);
    assert.match(stdout, /tokens at[\s\S]*once more/);
  });
}

test.run();

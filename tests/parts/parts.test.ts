// serial, 300 s
// The runtime's parts are loaded by what needs them and by nothing else: the package with one of their scripts, or without any.
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { browsers, runtime, servers } from '../../build/runtimes.mjs';
import { importGguf } from '../../src/formats/gguf-model.js';
import { pack } from '../../src/pack/pack.js';
import { MemorySink } from '../../src/pack/sink.js';
import { bytesSource } from '../../src/platform/platform.js';
import { chattyFile } from '../formats/gguf-file.js';
import type { BrowserName } from '../helpers/browser.js';
import { runOnPage, runOnServer } from '../helpers/elsewhere.js';
import { repoRoot } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';

const test = suite('parts');
const dist = join(repoRoot, 'dist'), root = mkdtempSync(join(tmpdir(), 'lutra-parts-'));
const scripts = ['worker-chat.js', 'worker-import.js'];

/** The package with these scripts alone. */
function place(name: string, kept: string[]): string {
  cpSync(dist, join(root, name, 'dist'), { recursive: true, filter: path => !scripts.concat('.build', 'types').some(one => path.endsWith(one)) });
  symlinkSync(join(repoRoot, 'package.json'), join(root, name, 'package.json'));
  for (const script of kept) cpSync(join(dist, script), join(root, name, 'dist', script));
  return name;
}
const folders = [place('neither', []), place('chat', ['worker-chat.js']), place('import', ['worker-import.js']), place('later', [])];
test.after(() => rmSync(root, { recursive: true }));

const gguf = chattyFile(), source = await importGguf(bytesSource('tiny.gguf', gguf)), sink = new MemorySink();
await pack(source, { bits: 8 }, sink);
const args = { packed: [...sink.bytes], gguf: [...gguf] };

/** Runs elsewhere. What a packed model, its chat and a GGUF file come to: tokens, or an error. */
const job = async (_: unknown, { packed, gguf, at }: typeof args & { at: string[] }) => {
  const answers: Record<string, string[]> = {};
  const quick = { temperature: 0, maxTokens: 4 } as const;
  for (const url of at) {
    const lutra = await import(url) as typeof import('lutra');
    const outcome = (work: Promise<{ ids: number[] }>) => work.then(({ ids }) => `${ids.length} tokens`, ({ name, code, message, hint }) => `${name} ${code}: ${message} (${hint})`);
    const model = await lutra.loadModel(new Uint8Array(packed), { threads: 1 });
    const writes = await outcome(model.generate('the th', quick).result);
    const chats = await outcome(model.chat([{ role: 'user', content: 'the' }], quick).result);
    await model.dispose();
    const imports = await outcome(lutra.loadModel(new Uint8Array(gguf), { threads: 1 }).then(async model => {
      const result = await model.generate('the th', quick).result;
      await model.dispose();
      return result;
    }));
    answers[url] = [writes, chats, imports];
  }
  return Object.values(answers);
};

function check(answers: string[][]): void {
  const missing = (script: string) => new RegExp(`^FileAccessError FILE_ACCESS: \\S*/${script}: .*\\(All files of the package's dist folder`);
  for (const [i, expected] of [[/^4/, missing(scripts[0]!), missing(scripts[1]!)], [/^4/, /^4/, missing(scripts[1]!)], [/^4/, missing(scripts[0]!), /^4/]].entries()) {
    for (const [j, pattern] of expected.entries()) assert.match(answers[i]![j]!, pattern, `${folders[i]}, ${['packed', 'chat', 'GGUF'][j]}: ${answers[i]![j]}`);
  }
}

// Emulated processors would run the same scripts.
for (const name of [...servers.filter(name => !name.includes('arm')), ...browsers] as string[]) {
  const found = await runtime(name);
  if ('missing' in found) {
    skip(test, name, found.missing);
    continue;
  }
  test(name, async () => {
    const onPage = (browsers as string[]).includes(name);
    const at = folders.slice(0, 3).map(folder => onPage ? `/${folder}/dist/index.js` : pathToFileURL(join(root, folder, 'dist', 'index.js')).href);
    check(onPage ? await runOnPage(name as BrowserName, job, { ...args, at }, { folder: root, entry: at[0]! })
      : await runOnServer(found.command, job, { ...args, at }, { entry: join(root, 'neither', 'dist', 'index.js') }));
  });
}

test('what could not be loaded is tried again', async () => {
  const { loadModel } = await import(pathToFileURL(join(root, 'later', 'dist', 'index.js')).href) as typeof import('lutra');
  await using model = await loadModel(sink.bytes, { threads: 1 });
  const chat = () => model.chat([{ role: 'user', content: 'the' }], { temperature: 0, maxTokens: 4 }).result;
  assert.is(await chat().then(() => '', error => error.code), 'FILE_ACCESS');
  cpSync(join(dist, scripts[0]!), join(root, 'later', 'dist', scripts[0]!));
  assert.is((await chat()).ids.length, 4);
});

test('errors that a part throws keep their class', async () => {
  const { loadModel, BadModelFileError, ChatTemplateError } = await import(pathToFileURL(join(dist, 'index.js')).href) as typeof import('lutra');
  assert.instance(await loadModel(gguf.slice(0, 100)).catch(error => error), BadModelFileError);
  await using model = await loadModel(sink.bytes, { threads: 1 });
  const refused = await model.chat([{ role: 'system', content: 'the' }]).result.catch(error => error);
  assert.instance(refused, ChatTemplateError);
  assert.match(refused.message, 'no system');
});

test.run();

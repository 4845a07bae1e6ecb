// serial
// Every example runs. (examples/web: tests/web/demo.test.ts; examples/train-ternary is for Python.)
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { npm, runtime } from '../../build/runtimes.mjs';
import type { BrowserName } from '../helpers/browser.js';
import { reportOf } from '../helpers/elsewhere.js';
import { repoRoot } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';

const test = suite('examples');
const execute = promisify(execFile);
const examples = join(repoRoot, 'examples');

for (const name of ['deno', 'bun']) {
  const found = await runtime(name);
  if ('missing' in found) {
    skip(test, `examples/${name}`, found.missing);
    continue;
  }
  test(`examples/${name}`, async () => {
    const [program, ...args] = found.command;
    const { stdout } = await execute(program!, [...args, join(examples, name, 'story.ts'), 'One day, a dragon'], { timeout: 120_000 });
    assert.ok(stdout.trim().length > 50, stdout);
  });
}

for (const browser of ['chromium', 'firefox', 'webkit'] as BrowserName[]) {
  const found = await runtime(browser);
  if ('missing' in found) {
    skip(test, `examples/page in ${browser}`, found.missing);
    continue;
  }
  test(`examples/page in ${browser}`, async () => {
    // The page as it is, watched by a script that only reports.
    const watch = `<script type="module">
      const timer = setInterval(() => {
        if (document.title !== 'The end') return;
        clearInterval(timer);
        fetch('/report', { method: 'POST', body: JSON.stringify({ result: document.getElementById('story').textContent }) });
      }, 50);
    </script>`;
    const page = readFileSync(join(examples, 'page', 'index.html'), 'utf8') + watch;
    const story = await reportOf<string>(browser, '/examples/page/index.html', { pages: { '/examples/page/index.html': page } });
    assert.match(story, /^Once upon a time.{50}/s);
  });
}

test('examples/raspberry-pi: the tarball, installed; in Node here, and for ARM in an emulator', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lutra-'));
  try {
    await npm(['pack', '--ignore-scripts', '--loglevel=error', '--pack-destination', folder], repoRoot);
    const { version } = JSON.parse(readFileSync(join(repoRoot, 'package.json'), 'utf8'));
    writeFileSync(join(folder, 'package.json'), '{ "private": true }');
    await npm(['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', join(folder, `lutra-${version}.tgz`)], folder);
    cpSync(join(examples, 'raspberry-pi', 'story.mjs'), join(folder, 'story.mjs'));
    const arm = await runtime('node-24-arm64'), arm32 = await runtime('node-20-armv7l');
    const run = (command: string[], ...args: string[]) => execute(command[0]!, [...command.slice(1), join(folder, 'story.mjs'), ...args], { cwd: folder, timeout: 200_000 });
    for (const command of [[process.execPath], ...('command' in arm ? [arm.command] : [])]) {
      const { stdout, stderr } = await run(command);
      assert.match(stdout, /^Once upon a time.{50}/s);
      assert.match(stderr, /tokens\/s/);
    }
    const nowhere = await run([process.execPath], 'nowhere.safetensors').catch(error => error);
    assert.is(nowhere.code, 1);
    assert.match(nowhere.stderr, /nowhere\.safetensors.*no such file/);
    if ('command' in arm32) {
      // It lacks a function of Node 20.16: a typed error that says so.
      const old = await run(arm32.command).catch(error => error);
      assert.is(old.code, 1);
      assert.match(old.stderr, 'Node 20.16');
    }
    for (const found of [arm, arm32]) if ('missing' in found) console.log(`SKIPPED a part of examples/raspberry-pi: ${found.missing}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();

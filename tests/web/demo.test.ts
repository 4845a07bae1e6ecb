// serial
// examples/web as a person uses it, on a telephone's screen, isolated and not.
import { join } from 'node:path';
import { chromium, type Browser, type Page } from 'playwright-core';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runtime } from '../../build/runtimes.mjs';
import { startServer } from '../../build/serve.mjs';
import { chromiumFlags } from '../helpers/browser.js';
import { repoRoot } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';

const test = suite('web demo');
const found = await runtime('chromium');

async function onPage(isolated: boolean, task: (page: Page, origin: string) => Promise<void>): Promise<void> {
  const server = await startServer({ isolated });
  let browser: Browser | undefined;
  try {
    browser = await chromium.launch({ executablePath: (found as { command: string[] }).command[0]!, args: chromiumFlags });
    const page = await browser.newPage({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true });
    const errors: string[] = [];
    page.on('pageerror', error => errors.push(error.message));
    await task(page, server.origin);
    assert.equal(errors, []);
  } finally {
    await browser?.close();
    await server.close();
  }
}

const ended = (page: Page) => page.waitForFunction(() => /seed \d+/.test(document.getElementById('status')!.textContent!), null, { timeout: 60_000 });
const story = (page: Page) => page.textContent('#story');

for (const isolated of 'missing' in found ? [] : [true, false]) {
  test(`${isolated ? 'isolated' : 'not isolated'}: a story, another one, a file, a URL, a file that is no model`, async () => {
    await onPage(isolated, async (page, origin) => {
      const begin = performance.now();
      await page.goto(`${origin}/examples/web/`);
      await page.waitForFunction(() => document.getElementById('story')!.textContent!.length > 'Once upon a time'.length, null, { timeout: 60_000 });
      const first = performance.now() - begin;
      await ended(page);
      console.log(`${isolated ? 'isolated' : 'not isolated'}: first words ${first.toFixed(0)} ms, whole story ${(performance.now() - begin).toFixed(0)} ms after the page was asked for`);
      assert.match((await story(page))!, /^Once upon a time\W.{100}/s);
      assert.match((await page.textContent('#status'))!, isolated ? /crew: shared|there is one core/ : /crew: (single|private), this page is not cross-origin isolated/);
      assert.match((await page.textContent('#status'))!, /tokens, \d+ a second, seed/);
      assert.is(await page.evaluate(() => document.documentElement.scrollWidth), 390, 'nothing is cut off at the side');
      if (process.env.LUTRA_SCREENSHOT && isolated) await page.screenshot({ path: process.env.LUTRA_SCREENSHOT });

      // The same seed, the same story.
      const stories: string[] = [];
      for (let i = 0; i < 2; i++) {
        await page.fill('#prompt', 'One day, a dragon');
        await page.fill('#seed', '5');
        await page.click('#go');
        await page.waitForFunction(() => document.getElementById('go')!.textContent === 'Write' && /seed 5$/m.test(document.getElementById('status')!.textContent!));
        stories.push((await story(page))!);
      }
      assert.is(stories[0], stories[1]);
      assert.match(stories[0]!, /^One day, a dragon/);

      await page.setInputFiles('#file', join(repoRoot, 'package.json'));
      await page.waitForSelector('#trouble:not([hidden])');
      assert.match((await page.textContent('#trouble'))!, /\S+\n\S+/);
      assert.ok(await page.isDisabled('#go'));

      await page.setInputFiles('#file', join(repoRoot, 'models', 'stories.lutra.safetensors'));
      await page.waitForSelector('#go:enabled');
      await page.fill('#url', `${origin}/models/stories.lutra.safetensors`);
      await page.click('#link button');
      await page.waitForSelector('#go:enabled');
      await page.click('#go');
      await ended(page);
      assert.is(await story(page), stories[0]);
      assert.ok(await page.isHidden('#trouble'));
    });
  });
}
if ('missing' in found) skip(test, 'the demo page', found.missing);

test.run();

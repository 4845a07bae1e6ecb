// serial
// Sessions of one model that are answered at the same time on a page, where a turn of the event loop is a message to oneself.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { browsers, runtime } from '../../build/runtimes.mjs';
import type { BrowserName } from '../helpers/browser.js';
import { runOnPage } from '../helpers/elsewhere.js';
import { skip } from '../helpers/skip.js';

const test = suite('sessions on a page');

for (const browser of browsers as BrowserName[]) {
  const title = `${browser}: three at once give what they give alone`, found = await runtime(browser);
  if ('missing' in found) {
    skip(test, title, found.missing);
    continue;
  }
  test(title, async () => {
    const { alone, together } = await runOnPage(browser, async lutra => {
      const model = await lutra.loadModel('/models/stories.lutra.safetensors', { threads: 1, maxSessions: 3, context: 256 });
      const answers = (prompts: string[]) => Promise.all(prompts.map(async prompt => {
        const session = await model.createSession(), { text } = await session.generate(prompt, { temperature: 0, maxTokens: 150 }).result;
        await session.dispose();
        return text;
      }));
      const prompts = ['Once upon a time', 'One day, a girl named Lily ', 'The little dog'], alone = [];
      for (const prompt of prompts) alone.push(...await answers([prompt]));
      const together = await Promise.race([answers(prompts), new Promise<string>(resolve => setTimeout(() => resolve('no answer after 30 s'), 30_000))]);
      await model.dispose();
      return { alone, together };
    }, {});
    assert.equal(together, alone);
  });
}

test.run();

// serial
// Aborted, disposed of, killed, the page closed: while a model is downloaded, loaded, reads a prompt or writes.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import { browsers, runtime } from '../../build/runtimes.mjs';
import type { BrowserName } from '../helpers/browser.js';
import { runOnPage } from '../helpers/elsewhere.js';
import { skip } from '../helpers/skip.js';
import { checkEnded, endAll, frame, hubWith, placeKiller } from '../runtime/ended.js';

const test = suite('ended at every stage, on pages');
const folder = mkdtempSync(join(tmpdir(), 'lutra-'));
let hub: Awaited<ReturnType<typeof hubWith>>;
test.before(async () => {
  hub = await hubWith(folder);
  placeKiller(join(folder, 'lutra'));
});
test.after(async () => {
  await hub.close();
  rmSync(folder, { recursive: true });
});

// Megabytes a round that are no model's: WebKitGTK keeps some ten of each worker and frame that is ended from outside.
const kept = { chromium: 20, firefox: 60, webkit: 100 }, rounds = { chromium: 3, firefox: 2, webkit: 2 };
for (const browser of browsers as BrowserName[]) {
  const found = await runtime(browser), name = `${browser}: a typed error at once, nothing after it, the memory given back`;
  if ('missing' in found) {
    skip(test, name, found.missing);
    continue;
  }
  test(name, async () => {
    const expected = { threads: browser === 'webkit' ? 1 : 2, rounds: rounds[browser], growth: (rounds[browser] - 1) * kept[browser] * 1e6, page: true }, base = `${hub.endpoint}/org/repo/resolve/main`;
    const args = { ...expected, slow: `${base}/slow.lutra.safetensors`, model: `${base}/big.lutra.safetensors` };
    const report = await runOnPage(browser, endAll, args, { entry: '/lutra/index.js', folder, isolated: true, memory: true, pages: { '/frame.html': frame }, limit: 250_000 });
    console.log(`MB after each round: ${report.marks.map(bytes => Math.round(bytes / 1e6)).join(', ')}`);
    checkEnded(report, expected);
  });
}

test.run();

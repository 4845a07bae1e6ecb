// serial
// The page of `lutra eval --table` in a browser.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runtime } from '../../build/runtimes.mjs';
import { writePlot } from '../../src/cli/plot.js';
import { FileAccessError } from '../../src/errors.js';
import { chromiumFlags } from '../helpers/browser.js';
import { skip } from '../helpers/skip.js';

const test = suite('plot');
const found = await runtime('chromium');
const plot = {
  title: 'Perplexity on <b>text</b>', x: 'bits per weight', y: 'perplexity', line: { name: 'the source', y: 3 },
  points: [{ name: 'four & more', x: 4.2, y: 3.4 }, { name: '</script><script>window.broken = true</script>', x: 2.4, y: 7.7 }],
};

let folder: string;
test.before(() => { folder = mkdtempSync(join(tmpdir(), 'lutra-plot-')); });
test.after(() => rmSync(folder, { recursive: true }));

if ('missing' in found) {
  skip(test, 'opened in Chromium', found.missing);
} else {
  test('opened in Chromium: points and a line are drawn where they belong, names stay names, nothing is fetched', async () => {
    const path = join(folder, 'plot.html');
    await writePlot(path, plot);
    const browser = await chromium.launch({ executablePath: found.command[0]!, args: chromiumFlags });
    try {
      const page = await browser.newPage({ viewport: { width: 1000, height: 900 } }), errors: string[] = [], asked: string[] = [];
      page.on('pageerror', error => errors.push(error.message));
      page.on('request', request => asked.push(request.url()));
      const url = pathToFileURL(path).href;
      await page.goto(url);
      assert.equal([errors, asked], [[], [url]]);
      assert.is(await page.textContent('h1'), plot.title);
      assert.is(await page.evaluate(() => (window as { broken?: true }).broken), undefined);
      assert.equal(await page.locator('td:first-child').allTextContents(), [plot.points[1]!.name, plot.points[0]!.name]);
      // Colours of the canvas around what the chart says of its points.
      const { drawn, line } = await page.evaluate(() => {
        const canvas = document.querySelector('canvas')!, context = canvas.getContext('2d')!, ratio = devicePixelRatio;
        const chart = (window as unknown as { Chart: { getChart(of: Element): any } }).Chart.getChart(canvas);
        const at = (x: number, y: number) => [...context.getImageData(x * ratio, y * ratio, 1, 1).data];
        const y = chart.scales.y.getPixelForValue(3), left = chart.scales.x.left;
        return {
          drawn: chart.getDatasetMeta(0).data.map((point: { x: number; y: number }, i: number) => ({
            colour: at(point.x, point.y), x: chart.scales.x.getValueForPixel(point.x), y: chart.scales.y.getValueForPixel(point.y), name: chart.data.datasets[0].data[i].label,
          })),
          line: Array.from({ length: 60 }, (_, i) => at(left + 10 + i, y)),
        };
      });
      const near = (a: number, b: number) => Math.abs(a / b - 1) < 0.02;
      for (const [i, { colour, x, y, name }] of drawn.entries()) {
        const want = plot.points[1 - i]!;
        assert.is(name, want.name);
        assert.ok(near(x, want.x) && near(y, want.y), `${x}, ${y}`);
        assert.ok(colour[2] > 150 && colour[0] < 100 && colour[3] > 200, `a blue point: ${colour}`);
      }
      assert.ok(line.some(([r, , b, a]) => r! > 150 && b! < 100 && a! > 100), 'an orange line');
    } finally {
      await browser.close();
    }
  });
}

test('a page that cannot be written is an error of its own kind', async () => {
  const error = await writePlot(join(folder, 'none', 'plot.html'), plot).catch(error => error);
  assert.instance(error, FileAccessError);
});

test.run();

// serial
// lutra/inline on pages that are not isolated: from files, data URLs and HTML strings; the page itself stays responsive.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { browsers, runtime } from '../../build/runtimes.mjs';
import { openPage, type BrowserName } from '../helpers/browser.js';
import { reportOf, runOnPage } from '../helpers/elsewhere.js';
import { repoRoot } from '../helpers/paths.js';
import { startServer } from '../../build/serve.mjs';
import { skip } from '../helpers/skip.js';

const test = suite('inline pages');
const MODEL = '/models/stories.lutra.safetensors';
const script = readFileSync(join(repoRoot, 'dist', 'inline.script.js'), 'utf8').replaceAll('</script', '<\\/script');
const module = readFileSync(join(repoRoot, 'dist', 'inline.js'));

/** A page that holds everything but the model, and posts what came of it to `server`. */
const page = (server: string, library = `<script>${script}</script>`) => `<!doctype html><meta charset="utf-8">${library}<script type="module">
  const send = report => fetch(${JSON.stringify(`${server}/report`)}, { method: 'POST', body: JSON.stringify(report) });
  try {
    const bytes = await (await fetch(${JSON.stringify(server + MODEL)})).arrayBuffer();
    const tell = async options => {
      const model = await lutra.loadModel(bytes, options);
      const { text, completionTokens } = await model.generate('Once upon a time', { temperature: 0, maxTokens: 20 }).result;
      const { crew, crewReason } = model.info();
      await model.dispose();
      return { text, completionTokens, crew, crewReason, origin: self.origin };
    };
    await send({ result: { ...await tell({}), pair: await tell({ crew: 'private', threads: 2 }) } });
  } catch (error) {
    await send({ error: { name: error.name, message: error.message, stack: error.stack.slice(0, 2000) } });
  }
</script>`;
interface Answer { text: string; completionTokens: number; crew: string; crewReason: string; origin: string; pair: { text: string; crew: string } }

function check({ text, completionTokens, crew, crewReason, pair }: Answer, browser: string): void {
  assert.ok(text.length > 10, browser);
  assert.is(completionTokens, 20);
  assert.match(crew, /^(single|private)$/); // as timing settles it
  assert.match(crewReason, 'not cross-origin isolated');
  assert.equal([pair.crew, pair.text], ['private', text]);
}

for (const browser of browsers as BrowserName[]) {
  const found = await runtime(browser);
  if ('missing' in found) {
    for (const what of ['a file', 'a data URL', 'an HTML string', 'an import', 'a responsive page']) skip(test, `${browser}: ${what}`, found.missing);
    continue;
  }

  test(`${browser}: a page opened from a file, the library as a script beside it`, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lutra-'));
    let arrived: (report: any) => void;
    const report = new Promise<any>(resolve => { arrived = resolve; });
    const server = await startServer({ onReport: report => arrived(report) });
    writeFileSync(join(folder, 'lutra.js'), readFileSync(join(repoRoot, 'dist', 'inline.script.js')));
    writeFileSync(join(folder, 'page.html'), page(server.origin, '<script src="lutra.js"></script>'));
    const opened = await openPage(browser, pathToFileURL(join(folder, 'page.html')).href);
    try {
      const { result, error } = await Promise.race([report, new Promise(resolve => setTimeout(resolve, 60_000, { error: opened.log() }))]);
      assert.is(error, undefined, JSON.stringify(error));
      check(result, browser);
    } finally {
      await opened.close();
      await server.close();
      rmSync(folder, { recursive: true });
    }
  });

  // What a WebView shows when it is given a string, and what a data URL is: a page without an origin.
  for (const [what, attribute] of [['an HTML string', 'srcdoc'], ['a data URL', 'src']] as const) {
    test(`${browser}: ${what}, in a frame of an opaque origin`, async () => {
      const value = attribute === 'srcdoc' ? 'page' : '"data:text/html;charset=utf-8," + encodeURIComponent(page)';
      const host = `<!doctype html><script type="module">
        const page = (await (await fetch('/inner.html')).text()).replaceAll('SERVER', location.origin);
        const frame = document.createElement('iframe');
        frame.sandbox = 'allow-scripts';
        frame.${attribute} = ${value};
        document.body.append(frame);
      </script>`;
      const answer = await reportOf<Answer>(browser, '/host.html', { pages: { '/host.html': host, '/inner.html': page('SERVER') } });
      check(answer, browser);
      assert.is(answer.origin, 'null');
    });
  }

  test(`${browser}: imported from a data URL`, async () => {
    const entry = `data:text/javascript;base64,${module.toString('base64')}`;
    const crew = await runOnPage(browser, async lutra => {
      const model = await lutra.loadModel(await (await fetch('/models/stories.lutra.safetensors')).arrayBuffer());
      return model.info().crew;
    }, null, { entry });
    assert.match(crew, /^(single|private)$/); // as timing settles it
  });

  test(`${browser}: the page stays responsive while a model loads and writes`, async () => {
    const measure = () => runOnPage(browser, async lutra => {
      const bytes = await (await fetch('/models/stories.lutra.safetensors')).arrayBuffer();
      /** Longest time between two turns of the page's event loop, of which each asks for the next in a millisecond; in ms. */
      const longestTurn = async (work: () => Promise<void>) => {
        let longest = 0, last = performance.now(), timer: ReturnType<typeof setTimeout>;
        const turn = () => {
          longest = Math.max(longest, performance.now() - last);
          last = performance.now();
          timer = setTimeout(turn, 1);
        };
        turn();
        await work();
        turn();
        clearTimeout(timer!);
        return longest;
      };
      let tokens = 0;
      const lutrasTurn = await longestTurn(async () => {
        const model = await lutra.loadModel(bytes);
        for (let seed = 0; seed < 4; seed++) {
          for await (const piece of model.generate('Once upon a time', { seed, maxTokens: 150 })) tokens += piece.ids.length;
        }
        await model.dispose();
      });
      // The same page beside a worker that does nothing but compute: what the machine's other programs do to it.
      const busy = new Worker(URL.createObjectURL(new Blob(['postMessage(0); for (;;);'])));
      await new Promise(resolve => { busy.onmessage = resolve; });
      const othersTurn = await longestTurn(() => new Promise(resolve => setTimeout(resolve, 1500)));
      busy.terminate();
      return { lutrasTurn, othersTurn, tokens };
    }, null, { entry: '/dist/inline.js' });
    const seen: string[] = [];
    for (let i = 0; i < 6; i++) {
      const { lutrasTurn, othersTurn, tokens } = await measure();
      assert.ok(tokens > 100);
      seen.push(`${lutrasTurn.toFixed(0)} ms (beside another worker ${othersTurn.toFixed(0)} ms)`);
      if (lutrasTurn < 50 || lutrasTurn < 2 * othersTurn) break;
      assert.ok(i < 5, seen.join(', '));
    }
    console.log(`${browser}: longest turn ${seen.join(', ')}`);
  });
}

test.run();

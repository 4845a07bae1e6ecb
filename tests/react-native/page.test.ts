// serial
// The component and its page, in browsers that are not isolated, as WebViews are. React and the WebView are stand-ins: a
// WebView is a frame that gets the component's HTML.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { browsers, runtime } from '../../build/runtimes.mjs';
import type { BrowserName } from '../helpers/browser.js';
import { runOnPage } from '../helpers/elsewhere.js';
import { repoRoot } from '../helpers/paths.js';
import { skip } from '../helpers/skip.js';

const test = suite('react native page');
const folder = mkdtempSync(join(tmpdir(), 'lutra-'));
const entry = join(folder, 'react-native.js');
test.before(async () => {
  const standIn = 'export const createElement = (type, props) => props; export const useRef = () => globalThis.view; export const useState = value => [value, () => {}]; export const useEffect = () => {}; export const WebView = "WebView";';
  const { outputFiles } = await build({
    entryPoints: [join(repoRoot, 'dist', 'react-native.js')], bundle: true, write: false, format: 'esm', logLevel: 'silent',
    plugins: [{ name: 'stand-ins', setup({ onResolve, onLoad }) {
      onResolve({ filter: /^react(-native-webview)?$/ }, () => ({ path: 'stand-in', namespace: 'test' }));
      onLoad({ filter: /./, namespace: 'test' }, () => ({ contents: standIn }));
    } }],
  });
  writeFileSync(entry, outputFiles[0]!.contents);
});
test.after(() => rmSync(folder, { recursive: true }));

const job = async (library: any, { hasOrigin }: { hasOrigin: boolean }) => {
  const lutra = new library.LutraBridge();
  const url = `${location.origin}/models/stories.lutra.safetensors`;
  let frame: HTMLIFrameElement, props: any;
  /** What a WebView does with its properties. */
  const mount = async () => {
    props = library.LutraView({ lutra, ...(!hasOrigin && { baseUrl: null }) });
    const prelude = `<script>window.ReactNativeWebView = { postMessage: text => parent.postMessage({ text }, '*') };
      addEventListener('message', ({ data }) => { if (data.script) (0, eval)(data.script); });</script>`;
    frame = document.createElement('iframe');
    if (!hasOrigin) frame.sandbox.add('allow-scripts');
    frame.srcdoc = props.source.html.replace('<script>', prelude + '<script>');
    document.body.append(frame);
  };
  (globalThis as any).view = { current: { injectJavaScript: (script: string) => frame.contentWindow!.postMessage({ script }, '*') } };
  addEventListener('message', ({ data, source }) => {
    if (source === frame.contentWindow) props.onMessage({ nativeEvent: { data: data.text } });
  });
  const failure = (error: any) => ({ name: error.name, code: error.code, message: error.message, hint: error.hint });

  await mount();
  const seen: string[] = [];
  const load = async () => {
    const phases = new Set<string>();
    const events: { loaded: number; total: number }[] = [];
    const model = await lutra.loadModel(url, { onProgress: ({ phase, loaded, total }: any) => { phases.add(phase); if (phase === 'download') events.push({ loaded, total }); } });
    seen.push([...phases].join());
    return { model, last: events.at(-1), count: events.length };
  };
  const { model, last } = await load();
  const pieces: string[] = [];
  for await (const { text } of model.generate('Once upon a time', { temperature: 0, maxTokens: 24 })) pieces.push(text);
  const result = await model.generate('Once upon a time', { temperature: 0, maxTokens: 24, seed: 2n ** 60n, hashLogits: true }).result;
  const { logProbabilities } = await model.score(result.promptIds);

  // Leaving the loop, and a signal.
  const stopper = new AbortController();
  const stopped = model.generate('Once upon a time', { signal: stopper.signal });
  setTimeout(() => stopper.abort(new Error('enough')), 20);
  const abort = await stopped.result.then(() => 'ended', (error: Error) => error.message);
  const bad = await model.generate('x', { temperature: -1 }).result.then(() => null, failure);
  const nothing = await lutra.loadModel(`${location.origin}/nowhere`).then(() => null, failure);

  // The system kills the page in the middle of an answer.
  const running = model.generate('Once upon a time', { seed: 1 });
  await running[Symbol.asyncIterator]().next();
  frame!.remove();
  props.onContentProcessDidTerminate();
  const killed = await running.result.then(() => null, failure);
  const after = await model.generate('x').result.then(() => null, failure);
  await mount();
  const again = await load();
  const { text } = await again.model.generate('Once upon a time', { temperature: 0, maxTokens: 24 }).result;
  const { crew, crewReason } = again.model.info();
  await again.model.dispose();
  const kept: string[] = [];
  const walk = async (folder: any) => {
    for await (const [name, handle] of folder.entries()) {
      if (handle.kind === 'directory') await walk(handle);
      else kept.push(name);
    }
  };
  if (lutra.status.cache && navigator.storage) await walk(await navigator.storage.getDirectory());
  else if (lutra.status.cache) kept.push(...(await caches.open('lutra').then(cache => cache.keys())).map(({ url }) => url.slice(url.lastIndexOf('/') + 1)));
  return { status: lutra.status, last, pieces, text: result.text, again: text, seed: String(result.seed), hash: result.logitsHash, scores: logProbabilities.length, abort, bad, nothing, killed, after, crew, crewReason, seen, kept };
};

for (const browser of browsers as BrowserName[]) {
  const found = await runtime(browser);
  for (const hasOrigin of [true, false]) {
    const name = `${browser}: ${hasOrigin ? 'with a base URL' : 'without an origin'}`;
    if ('missing' in found) {
      skip(test, name, found.missing);
      continue;
    }
    test(name, async () => {
      const report = await runOnPage(browser, job as any, { hasOrigin }, { entry: '/react-native.js', files: { '/react-native.js': entry }, limit: 60_000 }) as Awaited<ReturnType<typeof job>>;
      const size = readFileSync(join(repoRoot, 'models', 'stories.lutra.safetensors')).length;
      assert.is(report.status.cache, hasOrigin, 'cache');
      assert.is(report.status.origin === 'null', !hasOrigin);
      assert.equal(report.last, { loaded: size, total: size });
      assert.is(report.kept.some(name => name.startsWith('stories.lutra.safetensors.complete')), hasOrigin, report.kept.join());
      assert.equal(report.seen.map(phases => phases.includes('download')), [true, !hasOrigin], 'the second time from the device');
      assert.is(report.pieces.join(''), report.text);
      assert.is(report.again, report.text);
      assert.is(report.seed, String(2n ** 60n));
      assert.match(report.hash, /^[0-9a-f]{16}$/);
      assert.ok(report.scores > 1);
      assert.is(report.abort, 'enough');
      assert.is(report.bad.code, 'BAD_ARGUMENT');
      assert.is(report.nothing.code, 'FILE_ACCESS');
      assert.match(report.nothing.message, '404');
      for (const { code, message } of [report.killed, report.after]) {
        assert.is(code, 'ENGINE_CRASH');
        assert.match(message, 'regain memory');
      }
      assert.match(`${report.crew}, ${report.crewReason}`, /^(single|private), (this build is for pages that share no memory|there is one core)/);
    });
  }
}

test.run();

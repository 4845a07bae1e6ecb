/** wllama (llama.cpp as WebAssembly) in headless Chromium, on a page that may share memory between threads. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runtime } from '../../build/runtimes.mjs';
import { chromiumFlags } from '../../tests/helpers/browser.js';
import { startServer } from '../../build/serve.mjs';
import { tokenAt, type Contestant, type Rates } from '../contestant.js';
import { peerRequire, peersFolder } from './install.js';

/** What is used of playwright-core. */
interface Page {
  goto(url: string): Promise<unknown>;
  setInputFiles(selector: string, paths: string[]): Promise<void>;
  evaluate<A, R>(run: (argument: A) => R | Promise<R>, argument: A): Promise<R>;
  on(event: 'console', listener: (message: { text(): string }) => void): void;
  close(): Promise<void>;
}
interface Browser { newPage(): Promise<Page>; version(): string; close(): Promise<void> }
interface Playwright { chromium: { launch(options: { executablePath: string; args: string[]; headless: boolean; timeout: number }): Promise<Browser> } }

export const versions = ['2.3.1', '3.8.1'] as const;
export type WllamaVersion = (typeof versions)[number];

/** What the page does, by version: the old one decodes tokens, the new one only completes texts and says how long that took. */
const pages: Record<WllamaVersion, string> = {
  '2.3.1': `
    const wllama = new Wllama({ 'single-thread/wllama.wasm': base + '/single-thread/wllama.wasm', 'multi-thread/wllama.wasm': base + '/multi-thread/wllama.wasm' }, { suppressNativeLog: true });
    window.measure = async ({ prompt, generated }) => {
      await wllama.kvClear();
      const begin = performance.now();
      await wllama.decode(prompt, {});
      const middle = performance.now();
      for (const token of generated) await wllama.decode([token], {});
      return { prefill: prompt.length / (middle - begin) * 1000, decode: generated.length / (performance.now() - middle) * 1000 };
    };`,
  '3.8.1': `
    const wllama = new Wllama({ default: base + '/wasm/wllama.wasm' }, { suppressNativeLog: true });
    let turn = 0, perLetter = 0;
    // It takes texts only. Another first letter every time: nothing of the last prompt can be reused.
    const complete = async (letters, max_tokens) => {
      const prompt = Array.from({ length: letters }, (_, i) => String.fromCharCode(97 + (turn + 7 * i) % 26)).join(' ');
      turn++;
      return (await wllama.createCompletion({ prompt, max_tokens, temperature: 0, ignore_eos: true })).timings;
    };
    window.measure = async ({ prompt, generated }) => {
      perLetter ||= ((await complete(8, 1)).prompt_n - 1) / 8;
      const timings = await complete(Math.round((prompt.length - 1) / perLetter), generated.length + 1);
      if (Math.abs(timings.prompt_n / prompt.length - 1) > 0.2 || timings.predicted_n < generated.length) throw new Error('took and gave other numbers of tokens: ' + JSON.stringify(timings));
      // The first token drawn comes with the prompt.
      return { prefill: timings.prompt_n / timings.prompt_ms * 1000, decode: (timings.predicted_n - 1) / timings.predicted_ms * 1000 };
    };`,
};

const page = (version: WllamaVersion, folder: string) => `<!doctype html><input type="file" id="model" multiple><script type="module">
    const base = location.origin + ${JSON.stringify(folder)};
    const { Wllama } = await import(base + '/index.js');
    ${pages[version]}
    window.load = async ({ threads, context }) => {
      await wllama.loadModel([...document.querySelector('#model').files], { n_threads: threads, n_ctx: context, n_batch: 512, n_gpu_layers: 0, n_parallel: 1, warmup: false });
      return { threads: wllama.getNumThreads(), shared: wllama.isMultithread() };
    };
    window.ready = true;
  </script>`;

declare const window: {
  ready?: true;
  load(options: { threads: number; context: number }): Promise<{ threads: number; shared: boolean }>;
  measure(tokens: { prompt: number[]; generated: number[] }): Promise<Rates>;
};

export interface BrowserForPeers {
  version: string;
  openWllama(version: WllamaVersion, files: string[], model: string, bytes: number, threads: number, context: number): Promise<Contestant>;
  close(): Promise<void>;
}

export async function startBrowser(): Promise<BrowserForPeers> {
  const found = await runtime('chromium');
  if ('missing' in found) throw new Error(found.missing);
  const folders = new Map(versions.map(version => [version, `/node_modules/wllama-${version}/esm`]));
  const server = await startServer({ isolated: true, folder: peersFolder, pages: Object.fromEntries(versions.map(version => [`/${version}`, page(version, folders.get(version)!)])) });
  const { chromium } = peerRequire('playwright-core') as Playwright;
  const browser = await chromium.launch({ executablePath: found.command[0]!, headless: true, timeout: 120_000,
    args: [...chromiumFlags, '--disable-background-timer-throttling', '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows'] })
    .catch(async error => { await server.close(); throw error; });
  return {
    version: browser.version(),
    async openWllama(version, files, model, bytes, threads, context) {
      const tab = await browser.newPage();
      let said = '';
      tab.on('console', message => { said = message.text() || said; });
      try {
        await tab.goto(`${server.origin}/${version}`);
        for (let i = 0; !await tab.evaluate(() => window.ready, null); i++) {
          if (i > 100) throw new Error(`the page did not start: ${said}`);
          await new Promise(resolve => setTimeout(resolve, 100));
        }
        await tab.setInputFiles('#model', files);
        const got = await tab.evaluate(options => window.load(options), { threads, context });
        // Without shared memory it says so and runs on one thread.
        if (threads > 1 && (!got.shared || got.threads !== threads)) throw new Error(`asked for ${threads} threads, got ${got.shared ? got.threads : 1}`);
      } catch (error) {
        await tab.close();
        throw error;
      }
      const tokens = (from: number, count: number) => Array.from({ length: count }, (_, i) => tokenAt(from + i));
      return {
        name: `wllama ${version}`, version: packageVersion(version), model, threads, bytes,
        measure: (prompt, generated) => tab.evaluate(request => window.measure(request), { prompt: tokens(0, prompt), generated: tokens(prompt, generated) }),
        close: () => tab.close(),
      };
    },
    async close() {
      await browser.close();
      await server.close();
    },
  };
}

const packageVersion = (version: WllamaVersion) =>
  (JSON.parse(readFileSync(join(peersFolder, 'node_modules', `wllama-${version}`, 'package.json'), 'utf8')) as { version: string }).version;

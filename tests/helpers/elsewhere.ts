/** A function with the library, run somewhere else: in another server runtime or on a page of a browser. It must not refer to anything outside itself. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { openPage, type BrowserName } from './browser.js';
import { repoRoot } from './paths.js';
import { startServer } from '../../build/serve.mjs';

type Library = typeof import('lutra');
export type Job<Args, Result> = (lutra: Library, args: Args) => Promise<Result>;

const MARK = '@@result ';
/** With the stack of what caused it: where WebAssembly trapped. */
const describe = 'error => ({ name: error.name, message: error.message, code: error.code, hint: error.hint, stack: [error, error.cause].flatMap(error => error?.stack ?? []).join("\\ncaused by ") })';

/** For `env`: no thread of the process has a SharedArrayBuffer. Node's own threads get theirs before it goes. */
export const withoutSharing = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent('import "node:worker_threads"; delete globalThis.SharedArrayBuffer')}` };

export interface ServerJobOptions {
  /** The library's file. Default: dist/index.js. */
  entry?: string;
  /** Milliseconds. Default 120 s. */
  limit?: number;
  env?: Record<string, string>;
}

/** Runs `job` in a server runtime whose command line begins with `command`. */
export async function runOnServer<Args, Result>(command: readonly string[], job: Job<Args, Result>, args: Args, { entry = join(repoRoot, 'dist', 'index.js'), limit = 120_000, env = {} }: ServerJobOptions = {}): Promise<Result> {
  const folder = mkdtempSync(join(tmpdir(), 'lutra-'));
  try {
    const script = join(folder, 'job.mjs');
    writeFileSync(script, `import * as lutra from ${JSON.stringify(pathToFileURL(entry))};
      const report = await (${job})(lutra, ${JSON.stringify(args)}).then(result => ({ result }), error => ({ error: (${describe})(error) }));
      console.log(${JSON.stringify(MARK)} + JSON.stringify(report));`);
    const { output, code } = await execute([...command, script], limit, env);
    const line = output.split('\n').find(line => line.startsWith(MARK));
    if (!line) throw new Error(`no result (${code})\n${output}`);
    return settle(JSON.parse(line.slice(MARK.length)));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function execute([program, ...args]: string[], limit: number, env: Record<string, string>): Promise<{ output: string; code: number | string | null }> {
  return new Promise(resolve => {
    const child = spawn(program!, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1', ...env } });
    let output = '';
    const timer = setTimeout(() => child.kill('SIGKILL'), limit);
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', text => { output += text; });
    child.on('error', error => { output += error.stack; });
    child.on('close', (code, signal) => { clearTimeout(timer); resolve({ output, code: signal ?? code }); });
  });
}

export interface PageJobOptions extends NonNullable<Parameters<typeof startServer>[0]> {
  /** The library's path on the server. Default '/dist/index.js'. */
  entry?: string;
  /** Milliseconds. Default 120 s. */
  limit?: number;
  /** GET /memory tells the page what the browser's processes take, in bytes. */
  memory?: boolean;
}

/** Runs `job` on a page of the checkout's server. */
export function runOnPage<Args, Result>(browser: BrowserName, job: Job<Args, Result>, args: Args, { entry = '/dist/index.js', ...options }: PageJobOptions = {}): Promise<Result> {
  const page = `<!doctype html><meta charset="utf-8"><title>job</title><script type="module">
    const send = report => fetch('/report', { method: 'POST', body: JSON.stringify(report) });
    const describe = ${describe};
    addEventListener('error', event => send({ error: { name: 'error event', message: event.message } }));
    import(${JSON.stringify(entry)}).then(lutra => (${String(job).replaceAll('</script', '<\\/script')})(lutra, ${JSON.stringify(args)})).then(result => send({ result }), error => send({ error: describe(error) }));
  </script>`;
  return reportOf(browser, '/job.html', { ...options, pages: { ...options.pages, '/job.html': page } });
}

/** Opens the server's page `path`; what it posts to /report, `{result}` or `{error}`. */
export async function reportOf<Result>(browser: BrowserName, path: string, { limit = 120_000, memory = false, pages, ...options }: PageJobOptions): Promise<Result> {
  let arrived: (report: any) => void, timer: ReturnType<typeof setTimeout> | undefined;
  const report = new Promise<any>(resolve => { arrived = resolve; });
  const measured: Record<string, () => string> = memory ? { '/memory': () => String(page.memory()) } : {};
  const server = await startServer({ ...options, pages: { ...pages, ...measured }, onReport: report => arrived(report) });
  const page = await openPage(browser, server.origin + path);
  try {
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${browser}: no report after ${limit / 1000} s\n${page.log()}`)), limit);
    });
    return settle(await Promise.race([report, late]));
  } finally {
    clearTimeout(timer);
    await page.close();
    await server.close();
  }
}

function settle(report: { result?: any; error?: { name: string; message: string; stack?: string } }): any {
  if (!report.error) return report.result;
  const { name, message, stack, ...rest } = report.error;
  throw Object.assign(new Error(`${name}: ${message}\n${(stack ?? '').slice(0, 2000)}`), { remote: { name, message, ...rest } });
}

/** Browsers that open one page and are ended again. What a page has to say comes back through the server (build/serve.mjs). */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runtime } from '../../build/runtimes.mjs';

export type BrowserName = 'chromium' | 'firefox' | 'webkit';

export const chromiumFlags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-dev-shm-usage'];

/** Nothing of Firefox's own goes to the network, nothing asks. */
const firefoxPrefs = {
  'app.normandy.enabled': false, 'app.update.enabled': false, 'browser.aboutwelcome.enabled': false, 'browser.safebrowsing.update.enabled': false,
  'browser.shell.checkDefaultBrowser': false, 'browser.startup.homepage_override.mstone': 'ignore', 'datareporting.policy.dataSubmissionEnabled': false,
  'extensions.update.enabled': false, 'network.captive-portal-service.enabled': false, 'network.connectivity-service.enabled': false,
  'services.settings.server': 'data:,', 'toolkit.telemetry.enabled': false, 'toolkit.telemetry.unified': false,
};

export interface OpenPage {
  /** Everything the browser printed so far. */
  log(): string;
  /** Bytes of memory that its processes have; what they share is divided among them. */
  memory(): number;
  close(): Promise<void>;
}

/** Opens `url` in a fresh profile. */
export async function openPage(name: BrowserName, url: string): Promise<OpenPage> {
  const found = await runtime(name);
  if ('missing' in found) throw new Error(found.missing);
  const profile = mkdtempSync(join(tmpdir(), 'lutra-browser-'));
  const [program, ...rest] = found.command;
  const env: NodeJS.ProcessEnv = { ...process.env, HOME: profile, XDG_RUNTIME_DIR: profile, XDG_CACHE_HOME: profile, XDG_CONFIG_HOME: profile, XDG_DATA_HOME: profile };
  const closers: (() => Promise<void>)[] = [];
  let args: string[];
  if (name === 'chromium') {
    args = ['--headless=new', ...chromiumFlags, `--user-data-dir=${profile}`, url];
  } else if (name === 'firefox') {
    writeFileSync(join(profile, 'user.js'), Object.entries(firefoxPrefs).map(([key, value]) => `user_pref(${JSON.stringify(key)}, ${JSON.stringify(value)});\n`).join(''));
    args = ['--headless', '--no-remote', '--profile', profile, url];
  } else {
    const screen = await startScreen();
    closers.push(screen.close);
    Object.assign(env, { DISPLAY: screen.display, GDK_BACKEND: 'x11', LIBGL_ALWAYS_SOFTWARE: '1', NO_AT_BRIDGE: '1' });
    args = [url];
  }
  const browser = start(program!, [...rest, ...args], env);
  return {
    log: browser.log,
    memory: () => groupMemory(browser.child.pid!),
    async close() {
      await browser.close();
      for (const close of closers) await close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    },
  };
}

// A test that is ended from outside leaves no browser behind.
process.once('SIGTERM', () => process.exit(143));

/** A process and all that it starts. */
function start(program: string, args: string[], env: NodeJS.ProcessEnv) {
  const child = spawn(program, args, { env, detached: true, stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout!, child.stderr!]) stream.setEncoding('utf8').on('data', (chunk: string) => { text += chunk; });
  const ended = new Promise<void>(resolve => {
    child.on('error', error => { text += error.message; resolve(); });
    child.on('exit', () => resolve());
  });
  const kill = () => {
    try {
      if (child.pid) process.kill(-child.pid, 'SIGKILL');
    } catch { /* gone already */ }
  };
  process.once('exit', kill);
  return {
    child,
    log: () => text,
    async close() {
      kill();
      process.off('exit', kill);
      await ended;
    },
  };
}

function groupMemory(group: number): number {
  let bytes = 0;
  for (const id of readdirSync('/proc').filter(name => /^\d+$/.test(name))) {
    try {
      const fields = readFileSync(`/proc/${id}/stat`, 'utf8').replace(/^.*\)/s, '').split(' ');
      if (Number(fields[3]) === group) bytes += 1024 * Number(/^Pss: +(\d+)/m.exec(readFileSync(`/proc/${id}/smaps_rollup`, 'utf8'))![1]);
    } catch { /* ended meanwhile */ }
  }
  return bytes;
}

/** A screen that nobody sees. */
async function startScreen(): Promise<{ display: string; close(): Promise<void> }> {
  const xvfb = start('Xvfb', ['-displayfd', '3', '-screen', '0', '800x600x24', '-nolisten', 'tcp'], process.env);
  const display = await new Promise<string>((resolve, reject) => {
    xvfb.child.stdio[3]!.once('data', (number: Buffer) => resolve(`:${String(number).trim()}`));
    xvfb.child.once('exit', () => reject(new Error(`Xvfb ended: ${xvfb.log()}`)));
  });
  return { display, close: xvfb.close };
}

/**
 * Attacks, each measured in a process that does nothing else: a typed error, or what is said to be sound, within 2 s of processor
 * time and 64 MiB at the peak. A test file calls `measure` and nothing else; it is started again, as that process, by itself.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite, type Test } from 'uvu';
import * as assert from 'uvu/assert';

export interface Attack {
  name: string;
  /** What happens to be written into an empty folder before. */
  make?(folder: string): void;
  /** What is measured. Rejects with an error of this `code` or one of these, null: does not. */
  read(folder: string): unknown;
  code: string | null | (string | null)[];
  /** Of the error. */
  field?: string | RegExp;
}

interface Report { code: string | null; field?: string; message?: string; hint?: string; seconds: number; bytes: number }

const SECONDS = 2, BYTES = 64 << 20;
/** Of the wall clock: for what never ends. */
const PATIENCE_MS = 60_000;
const VICTIM = 'victim';

/** The process's memory now and at its peak since `forget`, bytes. Linux only; elsewhere the peak is that of all attacks so far. */
function memory(): { now: number; peak: number } {
  if (process.platform !== 'linux') return { now: process.memoryUsage().rss, peak: process.resourceUsage().maxRSS * 1024 };
  const status = readFileSync('/proc/self/status', 'utf8'), kilobytes = (field: string) => 1024 * Number(new RegExp(`${field}:\\s*(\\d+)`).exec(status)![1]);
  return { now: kilobytes('VmRSS'), peak: kilobytes('VmHWM') };
}

function forget(): void {
  globalThis.gc!();
  if (process.platform === 'linux') writeFileSync('/proc/self/clear_refs', '5');
}

async function run({ read }: Attack, folder: string): Promise<Report> {
  forget();
  const before = memory().now, begin = process.cpuUsage();
  let error: any;
  try {
    await read(folder);
  } catch (caught) {
    error = caught ?? new Error('nothing');
  }
  const { user, system } = process.cpuUsage(begin), bytes = memory().peak - before;
  return { code: error ? error.code ?? error.stack : null, field: error?.field, message: error?.message, hint: error?.hint, seconds: (user + system) / 1e6, bytes };
}

/**
 * @param warm something like the attacks, and sound: the first call of anything takes memory that stays
 * @param more registers tests that are not measured
 */
export async function measure(name: string, url: string, attacks: Attack[], warm: () => unknown = () => {}, more: (test: Test) => void = () => {}): Promise<void> {
  if (process.argv[2] === VICTIM) {
    await warm();
    process.on('message', async ([index, folder]: [number, string]) => { process.send!(await run(attacks[index]!, folder)); });
    process.send!('ready');
    return;
  }
  const test = suite(name);
  let victim: ChildProcess | undefined, worst = { seconds: 0, bytes: 0 };
  const answer = () => new Promise<any>((resolve, reject) => {
    const timer = setTimeout(() => { victim!.kill('SIGKILL'); reject(new Error(`no end after ${PATIENCE_MS / 1000} s`)); }, PATIENCE_MS);
    const done = (settle: () => void) => { clearTimeout(timer); victim!.removeAllListeners('message').removeAllListeners('exit'); settle(); };
    victim!.once('message', message => done(() => resolve(message))).once('exit', code => done(() => { victim = undefined; reject(new Error(`the process ended: ${code}`)); }));
  });
  const start = async () => {
    victim = fork(fileURLToPath(url), [VICTIM], { execArgv: ['--expose-gc'] });
    await answer();
  };
  for (const [index, { name: title, make, code, field }] of attacks.entries()) {
    test(title, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'lutra-attack-'));
      try {
        make?.(folder);
        if (!victim) await start();
        const reply = answer();
        victim!.send([index, folder]);
        const report: Report = await reply;
        assert.ok([code].flat().includes(report.code), `${report.code}: ${report.message ?? 'accepted'}`);
        if (field instanceof RegExp) assert.match(report.field ?? '', field);
        else if (field !== undefined) assert.is(report.field, field, report.message);
        if (report.code) assert.ok(report.hint && report.message!.length < 2000, `a hint and a short message: ${report.message}`);
        worst = { seconds: Math.max(worst.seconds, report.seconds), bytes: Math.max(worst.bytes, report.bytes) };
        assert.ok(report.seconds < SECONDS, `${report.seconds} s`);
        assert.ok(report.bytes < BYTES, `${(report.bytes / 2 ** 20).toFixed(1)} MiB`);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  }
  more(test);
  test.after(() => {
    victim?.kill();
    console.log(`${attacks.length} attacks: at most ${worst.seconds.toFixed(2)} s and ${(worst.bytes / 2 ** 20).toFixed(1)} MiB`);
  });
  test.run();
}

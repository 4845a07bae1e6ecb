/** Small things every build step uses. Only Node built-ins: this file runs before any dependency is installed. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');
export const dist = join(root, 'dist');
/** Objects, stamps and the lock: not published. */
export const cache = join(dist, '.build');

export const say = (...words) => console.error(...words);

/** A mistake the reader can do something about: printed without a stack. */
export class BuildError extends Error {}

/** Runs `main` when `meta` is the file given to Node. */
export async function ifMain(meta, main) {
  if (!process.argv[1] || join(process.argv[1]) !== fileURLToPath(meta.url)) return;
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    say(error instanceof BuildError ? `\n${error.message}` : error);
    process.exitCode = 1;
  }
}

/** All files below `folder` whose name matches, as sorted absolute paths. */
export function files(folder, matches) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .flatMap(entry => entry.isDirectory() ? files(join(folder, entry.name), matches)
      : matches.test(entry.name) ? [join(folder, entry.name)] : [])
    .sort();
}

/** A path as messages and hashes show it: from the root, with slashes. */
export const shown = path => relative(root, path).split(sep).join('/');

/** Hash of texts, and of files by name and content. */
export function hashOf({ texts = [], paths = [] }) {
  const hash = createHash('sha256');
  for (const text of texts) hash.update(`${text}\0`);
  for (const path of paths) hash.update(`${shown(path)}\0`).update(readFileSync(path)).update('\0');
  return hash.digest('hex');
}

/** Writes under a temporary name, then renames: another process sees the old file or the new one, nothing between. */
export function writeWhole(path, content) {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, content);
  renameSync(temporary, path);
}

/** Runs a program; resolves to its standard output, or throws with all that it printed. `live` shows output as it comes. */
export function run(program, args, { live = false, ...options } = {}) {
  return new Promise((resolve, reject) => {
    // What a live program says on stdout goes to our stderr: the caller's stdout is for results.
    const child = spawn(program, args, { cwd: root, stdio: live ? ['inherit', 2, 2] : ['ignore', 'pipe', 'pipe'], ...options });
    let out = '', all = '';
    child.stdout?.on('data', chunk => { out += chunk; all += chunk; });
    child.stderr?.on('data', chunk => { all += chunk; });
    child.on('error', error => reject(new BuildError(`${program} could not be started: ${error.message}`)));
    child.on('close', (code, signal) => code === 0 ? resolve(out)
      : reject(new BuildError(`${[program, ...args].join(' ')}\nended with ${signal ?? `code ${code}`}\n${all}`)));
  });
}

/** Runs jobs, as many at once as there are processors; the first error ends it. */
export async function inParallel(jobs, limit = availableParallelism()) {
  const results = new Array(jobs.length);
  let next = 0;
  await Promise.all(Array.from({ length: Math.min(limit, jobs.length) }, async () => {
    while (next < jobs.length) {
      const index = next++;
      try {
        results[index] = await jobs[index]();
      } catch (error) {
        next = jobs.length;
        throw error;
      }
    }
  }));
  return results;
}

/**
 * Does a step unless its inputs are those of the last time and its outputs are there. Says which, and how long it took.
 * `inputs` is what `hashOf` takes.
 */
export async function step(name, inputs, outputs, work, { force = false } = {}) {
  const stamp = join(cache, 'stamps', name.replace(/\W+/g, '-'));
  const key = hashOf(inputs);
  if (!force && existsSync(stamp) && readFileSync(stamp, 'utf8') === key && outputs.every(path => existsSync(path))) {
    say(`  ${name}: up to date`);
    return false;
  }
  const start = performance.now();
  rmSync(stamp, { force: true });
  const note = await work();
  writeWhole(stamp, key);
  say(`  ${name}: ${((performance.now() - start) / 1000).toFixed(1)} s${note ? `  ${note}` : ''}`);
  return true;
}

/** One build at a time in this checkout; a lock whose owner is gone is taken over. */
export async function withBuildLock(work) {
  const lock = join(cache, 'lock');
  mkdirSync(cache, { recursive: true });
  for (let told = false; ;) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    let owner = 0, age = 0;
    try {
      owner = Number(readFileSync(lock, 'utf8'));
      age = Date.now() - statSync(lock).mtimeMs;
    } catch { continue; }
    if (owner ? !alive(owner) : age > 5000) {
      rmSync(lock, { force: true });
      continue;
    }
    if (!told) say(`  waiting for another build (process ${owner})`);
    told = true;
    await new Promise(resolve => setTimeout(resolve, 200));
  }
  const release = () => rmSync(lock, { force: true });
  process.once('exit', release);
  try {
    return await work();
  } finally {
    process.off('exit', release);
    release();
  }
}

function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

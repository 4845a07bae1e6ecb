/** What has to be there before a build: Node's version, the dependencies. Only Node built-ins. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError, root, run, say } from './util.mjs';

/** Runs `npm ci` unless every package of the lock file is installed in its version. */
export async function ensureDependencies() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 20) throw new BuildError(`Node ${process.versions.node} is too old: lutra needs Node 20 or later.`);
  if (installed()) return;
  say('  installing the dependencies: npm ci');
  const npm = process.env.npm_execpath;
  const args = ['ci', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'];
  if (npm?.endsWith('.js')) await run(process.execPath, [npm, ...args], { live: true });
  else await run(process.platform === 'win32' ? 'npm.cmd' : 'npm', args, { live: true, shell: process.platform === 'win32' });
}

function installed() {
  const read = path => JSON.parse(readFileSync(path, 'utf8')).packages;
  const record = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(record)) return false;
  const wanted = read(join(root, 'package-lock.json')), there = read(record);
  return Object.entries(wanted).every(([path, { version, optional }]) => path === '' || optional || there[path]?.version === version);
}

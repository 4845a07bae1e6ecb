/**
 * Other versions of Node, for tests: npm's `node` packages, installed into .toolchain/runtimes/ when first asked for.
 *
 *   node build/runtimes.mjs 20 22 24 26      installs them and prints where they are
 */
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError, ifMain, root, run, say } from './util.mjs';

const versions = { 20: '20.20.2', 22: '22.23.3', 24: '24.21.0', 26: '26.10.0' };
export const majors = Object.keys(versions).map(Number);

/** The path of a Node program of that major version. */
export async function nodeBinary(major) {
  const version = versions[major];
  if (!version) throw new BuildError(`There is no pinned Node ${major}; there are ${majors.join(', ')}.`);
  if (process.versions.node === version) return process.execPath;
  const name = `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;
  const folder = join(root, '.toolchain', 'runtimes', `node-${version}`);
  const program = join(folder, 'node_modules', name, 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
  if (existsSync(program)) return program;

  say(`  installing Node ${version} into .toolchain/runtimes`);
  const temporary = `${folder}.${process.pid}.tmp`;
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary, { recursive: true });
  // The package that holds the program of this platform: npm's `node` only chooses among them in an install script.
  writeFileSync(join(temporary, 'package.json'), JSON.stringify({ private: true }));
  const npm = process.env.npm_execpath?.endsWith('.js') ? [process.execPath, process.env.npm_execpath] : [process.platform === 'win32' ? 'npm.cmd' : 'npm'];
  await run(npm[0], [...npm.slice(1), 'install', `${name}@${version}`, '--no-save', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'],
    { cwd: temporary, live: true, shell: npm[0] === 'npm.cmd' });
  try {
    renameSync(temporary, folder);
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    if (!existsSync(program)) throw error; // else another process was faster
  }
  return program;
}

await ifMain(import.meta, async args => {
  for (const major of args.length > 0 ? args.map(Number) : majors) console.log(await nodeBinary(major));
});

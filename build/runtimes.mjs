/**
 * Other runtimes, for tests. Node (x86-64 and ARM), Deno and Bun come from npm, as the packages that hold their programs,
 * into .toolchain/runtimes/; browsers and the emulator for ARM are Debian packages.
 *
 *   node build/runtimes.mjs [NAME…]      installs them (default: all) and prints where they are, or why not
 */
import { chmodSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { installPackages, onPath, reasonOf } from './debian.mjs';
import { BuildError, ifMain, root, run, say } from './util.mjs';

const versions = { 20: '20.20.2', 22: '22.23.3', 24: '24.21.0', 26: '26.10.0' };
export const majors = Object.keys(versions).map(Number);

const os = process.platform === 'win32' ? 'win' : process.platform;
const windows = process.platform === 'win32';
const exe = windows ? '.exe' : '';
const folders = join(root, '.toolchain', 'runtimes');

/** The program of an npm package, installed into a folder of its own. */
async function npmProgram(folder, name, version, program) {
  const there = join(folders, folder);
  const path = join(there, 'node_modules', ...name.split('/'), program);
  if (existsSync(path)) return path;

  say(`  installing ${name} ${version} into .toolchain/runtimes`);
  const temporary = `${there}.${process.pid}.tmp`;
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary, { recursive: true });
  writeFileSync(join(temporary, 'package.json'), JSON.stringify({ private: true }));
  await npm(['install', `${name}@${version}`, '--no-save', '--no-audit', '--no-fund', '--ignore-scripts', '--force', '--loglevel=error'], temporary);
  chmodSync(join(temporary, path.slice(there.length)), 0o755); // some leave that to an install script
  try {
    renameSync(temporary, there);
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    if (!existsSync(path)) throw error; // else another process was faster
  }
  return path;
}

/** Runs npm: the one that runs this script, if one does. */
export function npm(args, cwd, { live = true } = {}) {
  const own = process.env.npm_execpath;
  if (own?.endsWith('.js')) return run(process.execPath, [own, ...args], { cwd, live });
  return run(windows ? 'npm.cmd' : 'npm', args, { cwd, live, shell: windows });
}

/** The path of a Node program of that major version. */
export async function nodeBinary(major) {
  const version = versions[major];
  if (!version) throw new BuildError(`There is no pinned Node ${major}; there are ${majors.join(', ')}.`);
  if (process.versions.node === version) return process.execPath;
  // npm's `node` only chooses among these in an install script.
  return npmProgram(`node-${version}`, `node-${os}-${process.arch}`, version, join('bin', `node${exe}`));
}

const libc = process.platform === 'linux' ? '-glibc' : '';
const deno = () => npmProgram('deno-2.9.6', `@deno/${process.platform}-${process.arch}${libc}`, '2.9.6', `deno${exe}`);
const bunArch = process.arch === 'arm64' ? 'aarch64' : process.arch;
const bun = () => npmProgram('bun-1.4.5', `@oven/bun-${windows ? 'windows' : process.platform}-${bunArch}`, '1.4.5', join('bin', `bun${exe}`));

/** Node of another architecture in an emulator of it, with Debian's libraries for cross compilers. */
async function emulated(arch, { debian, triple, emulator, version }) {
  const libraries = ['libc6', 'libstdc++6', 'libgcc-s1', 'libatomic1'].map(name => `${name}-${debian}-cross`);
  const program = await debianProgram(emulator, ['qemu-user-static'], 'an emulator for ARM');
  await debianProgram(`/usr/${triple}/lib/libatomic.so.1`, libraries, `the libraries of ${debian}`);
  return [program, '-L', `/usr/${triple}`, await npmProgram(`node-${version}-${arch}`, `node-linux-${arch}`, version, join('bin', 'node'))];
}

/** The path of a program; its packages are installed where it is missing. */
async function debianProgram(path, packages, what) {
  const found = () => path.includes('/') ? existsSync(path) && path : onPath(path);
  if (found()) return found();
  const obstacle = await installPackages(packages, what);
  if (obstacle) throw new BuildError(`${basename(path)} is not there (${obstacle})`);
  return found();
}

const webkit = '/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser';
/** How each is found or installed: the words of a command line that runs it. */
const finders = {
  ...Object.fromEntries(majors.map(major => [`node-${major}`, async () => [await nodeBinary(major)]])),
  'deno': async () => [await deno(), 'run', '--allow-read'],
  'bun': async () => [await bun()],
  'node-24-arm64': () => emulated('arm64', { debian: 'arm64', triple: 'aarch64-linux-gnu', emulator: 'qemu-aarch64-static', version: versions[24] }),
  'node-20-armv7l': () => emulated('armv7l', { debian: 'armhf', triple: 'arm-linux-gnueabihf', emulator: 'qemu-arm-static', version: '20.11.0' }),
  'chromium': async () => [await debianProgram('/usr/bin/chromium', ['chromium'], 'Chromium')],
  'firefox': async () => [await debianProgram('/usr/bin/firefox-esr', ['firefox-esr'], 'Firefox')],
  'webkit': async () => {
    await debianProgram('Xvfb', ['xvfb'], 'a virtual screen');
    return [await debianProgram(webkit, ['webkit2gtk-driver', 'libwebkit2gtk-4.1-0'], 'WebKitGTK')];
  },
};
export const servers = [...majors.map(major => `node-${major}`), 'deno', 'bun', 'node-24-arm64', 'node-20-armv7l'];
export const browsers = ['chromium', 'firefox', 'webkit'];

/**
 * @param {string} name one of `servers` or `browsers`
 * @returns {Promise<{ command: string[] } | { missing: string }>} The words that start it, or why it cannot be had here
 */
export async function runtime(name) {
  if (!finders[name]) throw new BuildError(`There is no runtime "${name}"; there are ${Object.keys(finders).join(', ')}.`);
  try {
    return { command: await finders[name]() };
  } catch (error) {
    return { missing: reasonOf(error) };
  }
}

await ifMain(import.meta, async args => {
  for (const name of args.length > 0 ? args : Object.keys(finders)) {
    const { command, missing } = await runtime(name);
    console.log(`${name}: ${command?.join(' ') ?? missing}`);
  }
});

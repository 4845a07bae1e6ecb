/**
 * The C++ toolchain: Emscripten's clang, wasm-ld and headers. Both routes below end in the same two commands, see wasm.mjs.
 * docs/toolchain.md says why emcc itself is not the driver, and which routes have been run.
 */
import { existsSync, mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { installPackages, onPath } from './debian.mjs';
import { BuildError, ifMain, root, run, say } from './util.mjs';

const EMSDK_VERSION = '4.0.10';
const DEBIAN_PACKAGES = ['emscripten', 'clang-19', 'lld-19'];
const exe = process.platform === 'win32' ? '.exe' : '';

/**
 * @typedef {{ clang: string, linker: string, sysroot: string, version: string, from: string }} Toolchain
 * @returns {Promise<Toolchain>} the first that is there: EMSDK, PATH, `.toolchain/emsdk`, Debian's packages; else it installs one
 */
export async function toolchain({ install = true } = {}) {
  return await emsdk(process.env.EMSDK, 'EMSDK')
    ?? await emccOnPath()
    ?? await emsdk(join(root, '.toolchain', 'emsdk'), '.toolchain/emsdk')
    ?? await debian()
    ?? (install ? await installDebian() ?? await installEmsdk() : undefined);
}

const isNew = version => Number(version.split('.')[0]) >= 4;

/** Emscripten's folder of programs and its folder of scripts -> a toolchain, if it is version 4 or later and complete. */
async function emscripten(llvm, scripts, from) {
  const versionFile = join(scripts, 'emscripten-version.txt');
  if (!existsSync(versionFile)) return undefined;
  const version = readFileSync(versionFile, 'utf8').replace(/["\s]/g, '');
  if (!isNew(version)) return undefined;
  const clang = join(llvm, `clang++${exe}`), linker = join(llvm, `wasm-ld${exe}`);
  if (!existsSync(clang) || !existsSync(linker)) return undefined;
  const sysroot = join(process.env.EM_CACHE ?? join(scripts, 'cache'), 'sysroot');
  // Emscripten copies its headers there when it first compiles something.
  if (!existsSync(join(sysroot, 'include', 'wasm_simd128.h')) && !existsSync(join(sysroot, 'include', 'c++'))) {
    const probe = join(root, '.toolchain', 'probe.cc');
    mkdirSync(dirname(probe), { recursive: true });
    writeFileSync(probe, '');
    const driver = join(scripts, process.platform === 'win32' ? 'em++.bat' : 'em++');
    await run(driver, ['-c', probe, '-o', `${probe}.o`], { shell: process.platform === 'win32' });
  }
  return describe(clang, linker, sysroot, `${from}, Emscripten ${version}`);
}

const emsdk = async (folder, from) =>
  folder ? await emscripten(join(folder, 'upstream', 'bin'), join(folder, 'upstream', 'emscripten'), from) : undefined;

async function emccOnPath() {
  const emcc = onPath(process.platform === 'win32' ? 'emcc.bat' : 'emcc');
  if (!emcc) return undefined;
  const scripts = dirname(realpathSync(emcc));
  const found = await emsdk(dirname(dirname(scripts)), 'PATH');
  if (found) return found;
  const emConfig = onPath('em-config') ?? join(scripts, 'em-config');
  if (!existsSync(emConfig)) return undefined;
  try {
    const folder = (await run(emConfig, ['EMSCRIPTEN_ROOT'])).trim();
    return await emscripten((await run(emConfig, ['LLVM_ROOT'])).trim(), folder, 'PATH');
  } catch {
    return undefined; // one that cannot even answer, such as Debian's with its compiler removed
  }
}

/** Debian's and Ubuntu's: Emscripten's headers from `emscripten`, the compiler from LLVM 19 (their emcc is bound to an older one). */
async function debian() {
  const clang = '/usr/lib/llvm-19/bin/clang++', linker = '/usr/lib/llvm-19/bin/wasm-ld';
  const sysroot = '/usr/share/emscripten/cache/sysroot';
  if (![clang, linker, join(sysroot, 'include')].every(path => existsSync(path))) return undefined;
  return describe(clang, linker, sysroot, 'Debian packages');
}

async function describe(clang, linker, sysroot, from) {
  const [compiler, ld] = await Promise.all([run(clang, ['--version']), run(linker, ['--version'])]);
  return { clang, linker, sysroot, from, version: `${compiler.split('\n')[0]}; ${ld.split('\n')[0].trim()}` };
}

async function installDebian() {
  try {
    if (await installPackages(DEBIAN_PACKAGES, 'the C++ toolchain for WebAssembly (about 1 GB on disk, a few minutes)', { ask: true })) return undefined;
  } catch (error) {
    say(`  that failed, trying emsdk instead: ${error.message.split('\n')[1]}`);
    return undefined;
  }
  return debian();
}

async function installEmsdk() {
  const folder = join(root, '.toolchain', 'emsdk');
  say(`  installing Emscripten ${EMSDK_VERSION} into .toolchain/emsdk (about 350 MB to download)`);
  const source = 'https://github.com/emscripten-core/emsdk';
  try {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(dirname(folder), { recursive: true });
    if (onPath(`git${exe}`)) {
      await run('git', ['clone', '--depth', '1', '--branch', EMSDK_VERSION, source, folder], { live: true });
    } else {
      mkdirSync(folder);
      const response = await fetch(`${source}/archive/refs/tags/${EMSDK_VERSION}.tar.gz`);
      if (!response.ok) throw new BuildError(`HTTP status ${response.status}`);
      const archive = join(folder, 'emsdk.tar.gz');
      writeFileSync(archive, new Uint8Array(await response.arrayBuffer()));
      await run('tar', ['-xzf', archive, '-C', folder, '--strip-components=1'], { live: true });
    }
    const python = onPath('python3') ?? onPath(`python${exe}`);
    if (!python) throw new BuildError('emsdk needs Python 3');
    await run(python, [join(folder, 'emsdk.py'), 'install', EMSDK_VERSION], { live: true });
  } catch (error) {
    throw new BuildError(`No C++ toolchain for WebAssembly was found, and emsdk could not be installed: ${error.message}
Install one yourself: ${DEBIAN_PACKAGES.join(' ')} on Debian or Ubuntu, or emsdk (emscripten.org) with EMSDK set. Then try again.`);
  }
  return emsdk(folder, '.toolchain/emsdk');
}

await ifMain(import.meta, async () => {
  const found = await toolchain({ install: !process.argv.includes('--find') });
  console.log(found ? `${found.from}: ${found.version}` : 'none');
});

/** Packages of Debian and Ubuntu, for what npm does not have: the C++ toolchain, browsers, an emulator. */
import { delimiter, join } from 'node:path';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { BuildError, run, say } from './util.mjs';

/**
 * Installs packages: as root at once, else with sudo after asking, where `ask` allows it and there is a terminal.
 * @param what for the reader: what they are, and how much
 * @returns {Promise<string | undefined>} why not, where that cannot be done; throws when it fails
 */
export async function installPackages(packages, what, { ask = false } = {}) {
  if (process.platform !== 'linux' || !onPath('apt-get')) return 'no apt-get here';
  const command = ['apt-get', 'install', '-y', '--no-install-recommends', ...packages];
  let sudo = [];
  if (process.getuid() !== 0) {
    if (!ask || !onPath('sudo') || !await agreed(`${what}: missing. Run "sudo ${command.join(' ')}"?`)) return `not root; apt-get install ${packages.join(' ')}`;
    sudo = ['sudo'];
  }
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const doIt = args => run([...sudo, ...args][0], [...sudo, ...args].slice(1), { live: true, env });
  say(`  installing ${what}: ${packages.join(' ')}`);
  await doIt(['apt-get', 'update', '-q']);
  await doIt([...command, '-q', '-o', 'Dpkg::Use-Pty=0', '-o', 'DPkg::Lock::Timeout=300']);
  return undefined;
}

async function agreed(question) {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`${question} [y/N] `);
  terminal.close();
  return /^y(es)?$/i.test(answer.trim());
}

export function onPath(name) {
  return (process.env.PATH ?? '').split(delimiter).filter(Boolean).map(folder => join(folder, name)).find(path => existsSync(path));
}

/** Why a BuildError's program did not do what it should, in one line. */
export const reasonOf = error => error instanceof BuildError ? error.message.split('\n').slice(0, 2).join(' ') : String(error);

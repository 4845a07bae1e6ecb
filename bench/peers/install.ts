/** The peers' packages, in a folder of their own, installed when they are asked for. */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { npm } from '../../build/runtimes.mjs';
import { repoRoot } from '../../tests/helpers/paths.js';

export const peersFolder = join(repoRoot, 'bench', 'peers');
export const peerRequire = createRequire(join(peersFolder, 'package.json'));

const read = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as { packages: Record<string, { version: string }> };

/** Runs `npm ci` in bench/peers unless that was done for this lock file. */
export async function installPeers(): Promise<void> {
  const record = join(peersFolder, 'node_modules', '.package-lock.json');
  const wanted = read(join(peersFolder, 'package-lock.json')).packages;
  const there = existsSync(record) ? read(record).packages : {};
  if (Object.entries(wanted).every(([path, { version }]) => path === '' || there[path]?.version === version)) return;
  console.error('installing the peers into bench/peers/node_modules (220 MB, once)');
  await npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], peersFolder);
}

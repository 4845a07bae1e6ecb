/** Packages that only a test needs, with a lock file of their own; kept from one run to the next. */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { npm } from '../../build/runtimes.mjs';
import { repoRoot } from './paths.js';

/**
 * Installs what package.json and package-lock.json in `sources` name into `.toolchain/NAME`.
 * @returns the folder that holds `node_modules`, or why the packages cannot be had: the registry is out of reach
 */
export async function packages(name: string, sources: string): Promise<{ folder: string } | { missing: string }> {
  const folder = join(repoRoot, '.toolchain', name), stamp = join(folder, 'node_modules', '.installed');
  const lock = readFileSync(join(sources, 'package-lock.json'), 'utf8');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return { folder };
  mkdirSync(folder, { recursive: true });
  for (const file of ['package.json', 'package-lock.json']) cpSync(join(sources, file), join(folder, file));
  try {
    await npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], folder, { live: false });
  } catch (error) {
    const unreachable = /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH)\b/.exec((error as Error).message);
    if (!unreachable) throw error;
    return { missing: `npm's registry is out of reach (${unreachable[0]})` };
  }
  writeFileSync(stamp, lock);
  return { folder };
}

/** The package as `npm pack` would take it, put into `folder`/node_modules. */
export function placeLutra(folder: string): void {
  for (const name of ['package.json', 'dist']) {
    cpSync(join(repoRoot, name), join(folder, 'node_modules', 'lutra', name), { recursive: true, filter: path => !path.includes('.build') });
  }
}

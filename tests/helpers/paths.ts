import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Tests run as dist-tests/NAME.js, one folder below the root. */
export const repoRoot = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Models and texts that are not in the repository: LUTRA_SHARED, or ../shared beside the checkout; undefined where neither is. */
export function sharedDir(): string | undefined {
  const folder = process.env.LUTRA_SHARED ?? resolve(repoRoot, '..', 'shared');
  return existsSync(folder) ? folder : undefined;
}

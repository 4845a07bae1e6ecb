/** cpp/layout.json -> constants for C++, TypeScript and AssemblyScript, by generate.mjs. */
import { join } from 'node:path';
import { root, run, step } from './util.mjs';

export async function generate() {
  const script = join(root, 'build', 'generate.mjs');
  await step('layout', { paths: [script, join(root, 'cpp', 'layout.json')] },
    ['cpp/generated/layout.h', 'src/generated/layout.ts', 'assembly/generated/layout.ts'].map(path => join(root, path)),
    async () => { await run(process.execPath, [script]); });
}

/** Node's built-in modules, where there are any. No `import` of them anywhere: bundlers for the web would look for them. */
import { EnvironmentError } from '../errors.js';

interface Builtins {
  'node:fs': typeof import('node:fs');
  'node:fs/promises': typeof import('node:fs/promises');
  'node:inspector': typeof import('node:inspector');
  'node:os': typeof import('node:os');
  'node:url': typeof import('node:url');
  'node:vm': typeof import('node:vm');
  'node:worker_threads': typeof import('node:worker_threads');
}

/** Node, Deno or Bun. */
export const isServer = typeof process === 'object' && typeof process.versions?.node === 'string';

export function builtin<Name extends keyof Builtins>(name: Name): Builtins[Name] {
  if (!isServer) throw new EnvironmentError(`${name} (this is no Node, Deno or Bun)`, 'Here models come from URLs, Files and bytes.');
  if (!process.getBuiltinModule) throw new EnvironmentError('process.getBuiltinModule', 'Use Node 20.16 or newer.');
  return process.getBuiltinModule(name) as Builtins[Name];
}

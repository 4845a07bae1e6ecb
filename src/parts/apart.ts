/**
 * Takes the place of parts.ts in worker.js: there each part is a script beside it, which is loaded when something first needs
 * it. The script adds a function to `lutraParts`: from what is shared to what the part exports.
 */
import { runScript, type PartName } from '../platform/assets.js';
import { shared } from './shared.js';

const scope = globalThis as { lutraParts?: Partial<Record<PartName, (given: typeof shared) => unknown>> };

/** A part, loaded once; a load that failed is tried again. */
function part<Part>(name: PartName): () => Promise<Part> {
  let loading: Promise<Part> | undefined;
  const load = async () => {
    await runScript(name);
    return scope.lutraParts![name]!(shared) as Part;
  };
  return () => loading ??= load().catch(error => {
    loading = undefined;
    throw error;
  });
}

export const chatPart = part<typeof import('./chat.js')>('worker-chat.js');
export const importPart = part<typeof import('./import.js')>('worker-import.js');

/** The package's own files: where they are, and their bytes. */
import { FileAccessError } from '../errors.js';
import { beside } from './beside.js';
import { builtin, isServer } from './builtin.js';

export type WorkerName = 'worker.js' | 'crew-worker.js' | 'pack-worker.js' | 'quant-worker.js';
/** What the runtime's worker loads when it needs it (src/parts/). */
export type PartName = 'worker-chat.js' | 'worker-import.js';
export type AssetName = WorkerName | PartName | 'wasm/packers.wasm' | 'wasm/lutra-quantize.wasm'
  | 'wasm/lutra-simd.wasm' | 'wasm/lutra-simd-shared.wasm' | 'wasm/lutra-relaxed.wasm' | 'wasm/lutra-relaxed-shared.wasm';

/** URLs; what begins with `INLINE` is the file itself, gzipped, as base64. */
export type AssetTable = Readonly<Partial<Record<AssetName, string>>>;
export const INLINE = 'data:application/gzip;base64,';

let table: AssetTable | undefined;

/** A worker is told by its parent, since bundlers rename files and rewrite only what the page imports. */
export function useAssets(given: AssetTable): void { table = given; }
export function allAssets(): AssetTable { return table ??= beside(); }

function locate(name: AssetName): string {
  const asset = allAssets()[name];
  if (asset === undefined) throw new FileAccessError(name, 'is not part of this build', 'Use the entry `lutra` or `lutra/inline`.');
  return asset;
}

const hint = 'All files of the package\'s dist folder have to be there, and served; `lutra/inline` needs no other file.';
const missing = (asset: string) => (cause: unknown): never => { throw new FileAccessError(asset, String(cause), hint, { cause }); };

export async function readAsset(name: AssetName): Promise<Uint8Array<ArrayBuffer>> {
  const asset = locate(name);
  if (asset.startsWith(INLINE)) return inflate(asset);
  if (asset.startsWith('file:')) return new Uint8Array(await builtin('node:fs/promises').readFile(new URL(asset)).catch(missing(asset)));
  const response = await fetch(asset).catch(missing(asset));
  if (!response.ok) throw new FileAccessError(asset, `HTTP status ${response.status}`, hint);
  return new Uint8Array(await response.arrayBuffer());
}

export const textOf = async (name: AssetName): Promise<string> => new TextDecoder().decode(await readAsset(name));

declare function importScripts(url: string): void;

/**
 * Runs a script in this worker. No module and no `import()`: a worker on the web is a script itself (workers.ts), and tools that
 * serve it while an app is written would make a module of it.
 */
export async function runScript(name: PartName): Promise<void> {
  const asset = locate(name);
  if (isServer) {
    builtin('node:vm').runInThisContext(await textOf(name), { filename: asset });
    return;
  }
  try {
    importScripts(asset);
  } catch (error) {
    missing(asset)(error);
  }
}

async function inflate(asset: string): Promise<Uint8Array<ArrayBuffer>> {
  const text = atob(asset.slice(INLINE.length)), gzipped = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) gzipped[i] = text.charCodeAt(i);
  // No Blob as the stream's source: WebKit cannot read one in a worker of a page that was opened from a file.
  const { writable, readable } = new DecompressionStream('gzip');
  const writer = writable.getWriter();
  const [bytes] = await Promise.all([new Response(readable).arrayBuffer(), writer.write(gzipped), writer.close()]);
  return new Uint8Array(bytes);
}

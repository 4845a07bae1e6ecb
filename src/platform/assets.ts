/** The package's own files: where they are, and their bytes. */
import { FileAccessError } from '../errors.js';
import { beside } from './beside.js';
import { builtin } from './builtin.js';

export type WorkerName = 'worker.js' | 'crew-worker.js' | 'pack-worker.js' | 'quant-worker.js';
export type AssetName = WorkerName | 'wasm/packers.wasm' | 'wasm/lutra-quantize.wasm'
  | 'wasm/lutra-simd.wasm' | 'wasm/lutra-simd-shared.wasm' | 'wasm/lutra-relaxed.wasm' | 'wasm/lutra-relaxed-shared.wasm';

/** URLs; what begins with `INLINE` is the file itself, gzipped, as base64. */
export type AssetTable = Readonly<Partial<Record<AssetName, string>>>;
export const INLINE = 'data:application/gzip;base64,';

let table: AssetTable | undefined;

/** A worker is told by its parent, since bundlers rename files and rewrite only what the page imports. */
export function useAssets(given: AssetTable): void { table = given; }
export function allAssets(): AssetTable { return table ??= beside(); }

export async function readAsset(name: AssetName): Promise<Uint8Array<ArrayBuffer>> {
  const asset = allAssets()[name];
  if (asset === undefined) throw new FileAccessError(name, 'is not part of this build', 'Use the entry `lutra` or `lutra/inline`.');
  if (asset.startsWith(INLINE)) return inflate(asset);
  if (asset.startsWith('file:')) return new Uint8Array(await builtin('node:fs/promises').readFile(new URL(asset)));
  const hint = 'Serve all files of the package\'s dist folder, or use `lutra/inline`.';
  const response = await fetch(asset).catch(cause => { throw new FileAccessError(asset, String(cause), hint, { cause }); });
  if (!response.ok) throw new FileAccessError(asset, `HTTP status ${response.status}`, hint);
  return new Uint8Array(await response.arrayBuffer());
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

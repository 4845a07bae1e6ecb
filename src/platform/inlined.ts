/** Takes the place of beside.ts in bundles that hold the assets themselves (build/bundle.mjs). */
import type { AssetName, AssetTable } from './assets.js';

/** Gzip, base64. */
declare const __LUTRA_ASSETS__: Partial<Record<AssetName, string>>;

export const beside = (): AssetTable =>
  Object.fromEntries(Object.entries(__LUTRA_ASSETS__).map(([name, text]) => [name, Uint8Array.from(atob(text), char => char.charCodeAt(0))]));

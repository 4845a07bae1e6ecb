/** Takes the place of beside.ts in bundles that hold the assets themselves, and in workers (build/bundle.mjs). */
import type { AssetTable } from './assets.js';

declare const __LUTRA_ASSETS__: AssetTable;

export const beside = (): AssetTable => __LUTRA_ASSETS__;

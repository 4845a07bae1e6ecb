/** Files that lie beside the bundle: literal `new URL` expressions, so that bundlers find them and copy them as they are. */
import type { AssetTable } from './assets.js';

export const beside = (): AssetTable => ({
  'worker.js': new URL('./worker.js', import.meta.url).href,
  'worker-chat.js': new URL('./worker-chat.js', import.meta.url).href,
  'worker-import.js': new URL('./worker-import.js', import.meta.url).href,
  'crew-worker.js': new URL('./crew-worker.js', import.meta.url).href,
  'pack-worker.js': new URL('./pack-worker.js', import.meta.url).href,
  'quant-worker.js': new URL('./quant-worker.js', import.meta.url).href,
  'wasm/packers.wasm': new URL('./wasm/packers.wasm', import.meta.url).href,
  'wasm/lutra-quantize.wasm': new URL('./wasm/lutra-quantize.wasm', import.meta.url).href,
  'wasm/lutra-simd.wasm': new URL('./wasm/lutra-simd.wasm', import.meta.url).href,
  'wasm/lutra-simd-shared.wasm': new URL('./wasm/lutra-simd-shared.wasm', import.meta.url).href,
  'wasm/lutra-relaxed.wasm': new URL('./wasm/lutra-relaxed.wasm', import.meta.url).href,
  'wasm/lutra-relaxed-shared.wasm': new URL('./wasm/lutra-relaxed-shared.wasm', import.meta.url).href,
});

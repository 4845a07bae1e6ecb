/** The part that reads models of other formats and packs them. */
export { importGguf } from '../formats/gguf-model.js';
export { importHuggingFace } from '../formats/hf.js';
export { importLlama2c } from '../formats/llama2c.js';
export { pack, packedBytes } from '../pack/pack.js';
export { PackStream } from '../runtime/pack-stream.js';

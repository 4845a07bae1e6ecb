// The packers: pure functions on byte ranges the caller gives. Nothing here allocates or keeps state between calls;
// memory is imported and belongs to the caller from `heapBase()` on.
export { rowFromF32, rowFromF16, rowFromBf16, rowFromQ8, rowFromTernary2, rowFromI2S } from './rows';
export {
  splitQ4_0, splitQ4_1, splitQ5_0, splitQ5_1, splitQ8_0, splitQ2_K, splitQ3_K, splitQ4_K, splitQ5_K, splitQ6_K, splitTQ1_0, splitTQ2_0, rowFromCodes,
} from './gguf';
export { splitGptq2, splitGptq3, splitGptq4, splitGptq8 } from './gptq';
export { alikeTrits, int8FromCodes, ternaryFromCodes } from './exact';
export { uniformFromPairs, uniformFromSmall, smallFinite, pairsFromSmall, tileFromUniform } from './uniform';
export { rowFromElutq, planesFromElutq, elutqFromPlanes, halvesFinite, halvesFromF32 } from './elutq';
export { tileFromRows, rowsFromTile, scaleRows, allFinite, sumAbs, rowAbsMax } from './tile';
export { hlqFit } from './hlq';
export { planesRowScale, planesFromTile, tileFromPlanes } from './planes';
export { ternaryFromTile, tileFromTernary } from './ternary';
export { int8RowScale, int8FromTile, tileFromInt8, f32FromTile, tileFromF32 } from './plain';

/** First byte that no constant of this module occupies. */
export function heapBase(): usize { return __heap_base; }

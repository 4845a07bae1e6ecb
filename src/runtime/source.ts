/** Whatever `loadModel` was given, as a packed model. */
import { BadArgumentError, UnsupportedFormatError } from '../errors.js';
import { detect } from '../formats/detect.js';
import { readPackedHeader } from '../formats/packed.js';
import type { ByteSource, PackedHeader } from '../formats/types.js';
import { pack } from '../pack/pack.js';
import { MemorySink } from '../pack/sink.js';
import { builtin } from '../platform/builtin.js';
import { bytesSource } from '../platform/platform.js';
import type { WireLoadOptions } from './types.js';

/** @param onProgress weights packed and to pack, when the model is not packed yet */
export async function openPacked(source: string | Uint8Array, options: Pick<WireLoadOptions, 'weights' | 'groupSize' | 'tokenizer'>,
  onProgress?: (loaded: number, total: number) => void, signal?: AbortSignal): Promise<{ source: ByteSource; header: PackedHeader }> {
  const packed = await openOrPack(source, options, onProgress, signal);
  try {
    return { source: packed, header: await readPackedHeader(packed) };
  } catch (error) {
    await packed.close();
    throw error;
  }
}

async function openOrPack(from: string | Uint8Array, { weights, groupSize, tokenizer }: Pick<WireLoadOptions, 'weights' | 'groupSize' | 'tokenizer'>,
  onProgress?: (loaded: number, total: number) => void, signal?: AbortSignal): Promise<ByteSource> {
  const found = typeof from === 'string'
    ? await detect(await localPath(from), { ...(tokenizer && { tokenizer: await localPath(tokenizer) }) })
    : { packed: bytesSource('(bytes)', from) };
  if ('packed' in found) {
    if (weights === undefined && groupSize === undefined) return found.packed;
    await found.packed.close();
    throw new BadArgumentError(weights === undefined ? 'groupSize' : 'weights', 'the model is packed already', 'Leave it out, or load the model that was packed.');
  }
  const { source } = found;
  try {
    const sink = new MemorySink();
    // Left to itself, `pack` makes small files. Here nothing is kept, so precision comes first.
    const bits = weights ?? source.defaultBits ?? 8;
    await pack(source, { bits, ...(groupSize && { groupSize }), ...(onProgress && { onProgress }), ...(signal && { signal }) }, sink);
    return bytesSource(from as string, sink.bytes);
  } finally {
    await source.close();
  }
}

/** A path, or a file URL, as a path. */
export async function localPath(location: string): Promise<string> {
  if (!/^[a-z][a-z0-9+.-]+:\/\//i.test(location)) return location;
  if (!location.startsWith('file:')) {
    throw new UnsupportedFormatError(location, 'URL', 'only file URLs can be opened', 'Download the model, or fetch its bytes and pass them.');
  }
  return builtin('node:url').fileURLToPath(location);
}

/** Whatever `loadModel` was given, as a packed model. */
import { BadArgumentError, OutOfMemoryError } from '../errors.js';
import { detect, detectFile, type Detected } from '../formats/detect.js';
import { openFile } from '../formats/files.js';
import { readPackedHeader } from '../formats/packed.js';
import type { SourceModel } from '../formats/source.js';
import type { ByteSource, ModelConfig, PackedHeader } from '../formats/types.js';
import { defaultKvType, kvPositionBytes, kvTypeFor } from '../engine/plan.js';
import type { KvTypeName } from '../engine/types.js';
import type { PackOptions } from '../pack/pack.js';
import { MemorySink } from '../pack/sink.js';
import { importPart } from '../parts/parts.js';
import { builtin } from '../platform/builtin.js';
import { blobSource, bytesSource, memoryLimit } from '../platform/platform.js';
import { DEFAULT_CONTEXT } from './options.js';
import type { PackInto } from './pack-stream.js';
import type { LoadProgress, WireLoadOptions, WireSource } from './types.js';

type SourceOptions = Pick<WireLoadOptions, 'weights' | 'groupSize' | 'tokenizer' | 'token' | 'context' | 'kvType'>;
type Report = (phase: LoadProgress['phase'], loaded: number, total: number) => void;

/** What becomes of `model`, which is being packed. */
type Hold = (name: string, model: SourceModel, packInto: PackInto) => Promise<ByteSource>;

async function inMemory(name: string, model: SourceModel, packInto: PackInto): Promise<ByteSource> {
  const sink = new MemorySink();
  try {
    await packInto(sink, new AbortController().signal);
    return bytesSource(name, sink.bytes);
  } finally {
    await model.close();
  }
}

/**
 * For an engine: a model that is not packed yet becomes a source of the kind that streams. Otherwise like `openPacked`.
 * @param onModel called with one that is not packed yet, at a moment when there is time: packing waits for its workers
 */
export const openForEngine = (from: WireSource, options: SourceOptions, onProgress?: Report, signal?: AbortSignal, onModel: (model: SourceModel, name: string) => void = () => {}) =>
  openPacked(from, options, onProgress, signal, async (name, model, packInto) =>
    (await importPart()).PackStream.open(name, packInto, () => onModel(model, name), () => model.close()));

/** @param onProgress bytes to download, weights to pack, where there is something of the kind to do */
export async function openPacked(from: WireSource, options: SourceOptions, onProgress: Report = () => {}, signal?: AbortSignal, hold: Hold = inMemory):
  Promise<{ source: ByteSource; header: PackedHeader }> {
  const packed = await openOrPack(from, options, onProgress, signal, hold);
  try {
    return { source: packed, header: await readPackedHeader(packed) };
  } catch (error) {
    await packed.close();
    throw error;
  }
}

async function openOrPack(from: WireSource, options: SourceOptions, onProgress: Report, signal: AbortSignal | undefined, hold: Hold): Promise<ByteSource> {
  if (typeof from !== 'string') {
    const file = from instanceof Uint8Array ? bytesSource('(bytes)', from) : blobSource(from, (from as Partial<File>).name ?? '(blob)');
    return packedOf(await detectFile(file, async () => {
      if (options.tokenizer === undefined) throw new BadArgumentError('tokenizer', 'this format keeps it in another file', 'Give its path.');
      return openFile(localPath(options.tokenizer));
    }), file.name, options, onProgress, signal, hold);
  }
  const { isRemote } = await import('../download/download.js');
  if (isRemote(from)) return openDownloaded(from, options, onProgress, signal, hold);
  const { tokenizer } = options;
  return packedOf(await detect(localPath(from), { ...(tokenizer && { tokenizer: localPath(tokenizer) }) }), from, options, onProgress, signal, hold);
}

/** Downloaded and, where it is not packed, packed into the store: the next start finds it there. */
async function openDownloaded(from: string, options: SourceOptions, onProgress: Report, signal: AbortSignal | undefined, hold: Hold): Promise<ByteSource> {
  const [{ RemoteModel }, { openStore, hubOptions }] = await Promise.all([import('../download/download.js'), import('../download/settings.js')]);
  const { weights, groupSize, tokenizer } = options;
  const model = new RemoteModel(from, { ...hubOptions(options.token), signal }), store = await openStore();
  const kept = `${model.folder}/packed/${model.file ?? 'model'}-${weights ?? 'auto'}-g${groupSize ?? 'auto'}-${__LUTRA_VERSION__}.lutra.safetensors`;
  if (await store.has(kept)) return openFile(store.location(kept));
  const importing = tokenizer ? { tokenizer: localPath(tokenizer) } : {};
  const location = await model.fetch(store, async remote => {
    const found = await detect(remote, importing);
    try {
      await checkMemory(found, options);
    } finally {
      await ('packed' in found ? found.packed : found.source).close();
    }
  }, (loaded, total) => onProgress('download', loaded, total));
  signal?.throwIfAborted();
  const found = await detect(location, importing);
  if ('packed' in found) return packedOf(found, from, options, onProgress, signal, hold);
  const { pack } = await importPart();
  try {
    await pack(found.source, packOptions(found.source, options, onProgress, signal), await store.sink(kept));
  } finally {
    await found.source.close();
  }
  return openFile(store.location(kept));
}

async function packedOf(found: Detected, name: string, options: SourceOptions, onProgress: Report, signal: AbortSignal | undefined, hold: Hold): Promise<ByteSource> {
  const { weights, groupSize } = options;
  if ('packed' in found) {
    if (weights === undefined && groupSize === undefined) return found.packed;
    await found.packed.close();
    throw new BadArgumentError(weights === undefined ? 'groupSize' : 'weights', 'the model is packed already', 'Leave it out, or load the model that was packed.');
  }
  const { source } = found, { pack } = await importPart();
  return hold(name, source, (sink, stop, meanwhile) =>
    pack(source, { ...packOptions(source, options, onProgress, signal ? AbortSignal.any([signal, stop]) : stop), ...(meanwhile && { meanwhile }) }, sink));
}

/** Left to itself, `pack` makes small files. Here precision comes first. */
function packOptions(source: SourceModel, { weights, groupSize }: SourceOptions, onProgress: Report = () => {}, signal?: AbortSignal): PackOptions {
  return {
    bits: weights ?? source.defaultBits ?? 8, ...(groupSize && { groupSize }), ...(signal && { signal }),
    onProgress: (done, total) => onProgress('pack', done, total),
  };
}

/** @throws OutOfMemoryError when the weights and one session's keys and values are more than there can be */
async function checkMemory(found: Detected, options: SourceOptions): Promise<void> {
  const kept = (config: ModelConfig, kvType: KvTypeName) => kvPositionBytes(config, options.kvType ?? kvType) * (options.context ?? Math.min(config.contextLength, DEFAULT_CONTEXT));
  const needed = 'packed' in found ? await readPackedHeader(found.packed).then(header => header.dataBytes + kept(header.config, kvTypeFor(header)))
    : (await importPart()).packedBytes(found.source, packOptions(found.source, options)) + kept(found.source.config, defaultKvType(found.source.config, options.weights === 'f32'));
  const available = memoryLimit();
  if (needed > available) throw new OutOfMemoryError(needed, available, 'Nothing was downloaded. Use a smaller model, fewer bits (`weights`), or a smaller context.');
}

/** A path, or a file URL, as a path. */
export function localPath(location: string): string {
  return location.startsWith('file:') ? builtin('node:url').fileURLToPath(location) : location;
}

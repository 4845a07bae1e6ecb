/** Models in several safetensors files with an index of what is where, as Hugging Face lays them out. */
import { BadModelFileError } from '../errors.js';
import { ALIGN } from '../generated/layout.js';
import { checkRange, isObject, parseJson, readBytes, shown } from './bytes.js';
import { openFile } from './files.js';
import { readSafetensorsHeader, serialiseSafetensorsHeader } from './safetensors.js';
import type { ByteSource, TensorInfo } from './types.js';

export const INDEX_NAME = 'model.safetensors.index.json';
const INDEX_LIMIT = 64 << 20;
const MAX_SHARDS = 1000;

const padded = (n: number) => String(n).padStart(5, '0');
export const shardName = (i: number, count: number): string => `model-${padded(i)}-of-${padded(count)}.safetensors`;

/** Tensor -> name of a file beside the index; not yet compared with the files. */
export async function readShardIndex(index: ByteSource): Promise<Map<string, string>> {
  if (index.size > INDEX_LIMIT) throw new BadModelFileError(index.name, 'size', `${index.size} bytes; at most ${INDEX_LIMIT} make sense`);
  const { weight_map: map } = parseJson(await readBytes(index, 0, index.size, 'JSON'), index.name, 'JSON');
  const entries: [string, unknown][] = isObject(map) ? Object.entries(map) : [], shards = new Set(entries.map(([, shard]) => shard));
  if (shards.size === 0 || shards.size > MAX_SHARDS) throw new BadModelFileError(index.name, 'weight_map', `${shards.size} shards`);
  for (const shard of shards) {
    if (typeof shard !== 'string' || !/^[\w.-]+\.safetensors$/.test(shard)) throw new BadModelFileError(index.name, 'weight_map', `${shown(shard)} is no file name of a shard`);
  }
  return new Map(entries as [string, string][]);
}

/** A packed model in shards, as the one file that they were cut from. Closes `index`. */
export async function openPackedShards(folder: string, index: ByteSource): Promise<ByteSource> {
  const files: ByteSource[] = [];
  const close = async () => { await Promise.all(files.map(file => file.close())); };
  try {
    const map = await readShardIndex(index), names = [...new Set(map.values())].sort();
    const tensors: [string, TensorInfo][] = [], spans: Span[] = [];
    let metadata: Record<string, string> = {}, at = 0;
    for (const [i, name] of names.entries()) {
      if (name !== shardName(i + 1, names.length)) throw new BadModelFileError(index.name, 'weight_map', `${name} is there, ${shardName(i + 1, names.length)} is not`);
      const file = await openFile(`${folder}/${name}`);
      files.push(file);
      const header = await readSafetensorsHeader(file);
      if (i === 0) metadata = header.metadata;
      for (const [tensor, { begin, end, ...rest }] of header.tensors) {
        if (map.get(tensor) !== name) throw new BadModelFileError(file.name, tensor, `the index says it is in ${map.get(tensor) ?? 'no file'}`);
        map.delete(tensor);
        tensors.push([tensor, { ...rest, begin: at + begin, end: at + end }]);
      }
      spans.push({ file, from: header.dataOffset, begin: at, end: at + file.size - header.dataOffset });
      at += file.size - header.dataOffset;
    }
    for (const [tensor, name] of map) throw new BadModelFileError(index.name, `weight_map.${tensor}`, `is not in ${name}`);
    return new Joined(folder, serialiseSafetensorsHeader(metadata, tensors, ALIGN), spans, close);
  } catch (error) {
    await close();
    throw error;
  } finally {
    await index.close();
  }
}

/** Bytes [begin, end) of the joined data are those of `file` from `from` on. */
interface Span { file: ByteSource; from: number; begin: number; end: number }

class Joined implements ByteSource {
  readonly size: number;
  constructor(readonly name: string, private readonly header: Uint8Array, private readonly spans: Span[], readonly close: () => Promise<void>) {
    this.size = header.length + spans.at(-1)!.end;
  }

  async read(target: Uint8Array, offset: number): Promise<void> {
    checkRange(this, offset, target.length, 'shards');
    const start = offset - this.header.length, stop = start + target.length;
    if (start < 0) target.set(this.header.subarray(offset, Math.min(this.header.length, offset + target.length)));
    for (const { file, from, begin, end } of this.spans) {
      const first = Math.max(begin, start), last = Math.min(end, stop);
      if (first < last) await file.read(target.subarray(first - start, last - start), from + first - begin);
    }
  }
}

/**
 * A packed model in several files, named as Hugging Face names them: model-00001-of-0000N.safetensors … and an index. They are
 * the one file cut between tensors; what the header of that file says beyond its tensors is in the first. See formats/shards.ts.
 */
import { FileAccessError } from '../errors.js';
import type { ByteSink } from '../formats/packed-writer.js';
import { serialiseSafetensorsHeader } from '../formats/safetensors.js';
import { INDEX_NAME, shardName } from '../formats/shards.js';
import type { TensorInfo } from '../formats/types.js';
import { ALIGN } from '../generated/layout.js';
import { builtin } from '../platform/builtin.js';
import { fileSink } from '../platform/platform.js';

/** Bytes [begin, end) of the one file's data, behind a header. */
interface Shard { begin: number; end: number; header: number; sink: ByteSink; name: string }

/** A file, or with `shardSize` (bytes of tensors in each, at least one tensor) a folder of files. */
export async function packedSink(path: string, shardSize?: number): Promise<ByteSink> {
  if (shardSize === undefined) return fileSink(path);
  try {
    await builtin('node:fs/promises').mkdir(path, { recursive: true });
  } catch (cause) {
    throw new FileAccessError(path, (cause as Error).message, 'Check that you may make this folder, and that it is no file.', { cause });
  }
  return new ShardSink(path, shardSize);
}

class ShardSink implements ByteSink {
  private readonly shards: Shard[] = [];
  private data = 0;
  private index: Record<string, unknown> = {};
  constructor(private readonly folder: string, private readonly shardSize: number) {}

  /** The header comes first, in one piece. */
  async begin(): Promise<void> {}

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    if (offset === 0) return this.open(bytes);
    const at = offset - this.data, shard = this.shards.find(({ end }) => at < end)!;
    await shard.sink.write(bytes, shard.header + at - shard.begin);
  }

  /** The index last: without it the folder is no model. */
  async finish(): Promise<void> {
    for (const { sink } of this.shards) await sink.finish();
    const index = await fileSink(`${this.folder}/${INDEX_NAME}`), bytes = new TextEncoder().encode(`${JSON.stringify(this.index, null, 1)}\n`);
    await index.begin(bytes.length);
    await index.write(bytes, 0);
    await index.finish();
  }

  async abort(): Promise<void> {
    for (const { sink } of this.shards) await sink.abort();
  }

  private async open(header: Uint8Array): Promise<void> {
    this.data = header.length;
    const { __metadata__: metadata, ...entries } = JSON.parse(new TextDecoder().decode(header.subarray(8)));
    const groups: [name: string, tensor: TensorInfo][][] = [];
    let room = 0;
    for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries<any>(entries)) {
      if (groups.length === 0 || end - begin > room) {
        groups.push([]);
        room = this.shardSize;
      }
      groups.at(-1)!.push([name, { dtype, shape, begin, end }]);
      room -= end - begin;
    }
    const map: Record<string, string> = {};
    for (const [i, tensors] of groups.entries()) {
      const name = shardName(i + 1, groups.length), begin = tensors[0]![1].begin, end = tensors.at(-1)![1].end;
      const moved = tensors.map(([one, tensor]): [string, TensorInfo] => [one, { ...tensor, begin: tensor.begin - begin, end: tensor.end - begin }]);
      const own = serialiseSafetensorsHeader(i === 0 ? metadata : { format: metadata.format }, moved, ALIGN);
      const sink = await fileSink(`${this.folder}/${name}`);
      this.shards.push({ begin, end, header: own.length, sink, name });
      await sink.begin(own.length + end - begin);
      await sink.write(own, 0);
      for (const [one] of tensors) map[one] = name;
    }
    this.index = { metadata: { total_size: this.shards.at(-1)!.end }, weight_map: map };
  }
}

/** Weights from a file, or as they are made, into the memories that hold them. */
import type { ByteSource, PackedHeader } from '../formats/types.js';
import type { Member } from './member.js';
import type { Run } from './plan.js';
import type { EngineOptions } from './types.js';

const READ_CHUNK = 16 << 20;

/** A memory, here or elsewhere. */
export interface Holder {
  /** What it holds of the data section. */
  readonly runs: readonly Run[];
  readonly weightBytes: number;
  /** Stores the `length` bytes that `fill` writes at an address. `fill` is called at once. */
  store(at: number, length: number, fill: (target: Uint8Array) => Promise<void> | void): Promise<void>;
}

export const holderOf = ({ memory, plan }: Member): Holder => ({
  ...plan,
  async store(at, length, fill) { await fill(new Uint8Array(memory.buffer, at, length)); },
});

/** @param check throws where there is no use in going on */
export async function loadWeights(source: ByteSource, { dataOffset }: PackedHeader, holders: readonly Holder[], { onProgress, signal }: Pick<EngineOptions, 'onProgress' | 'signal'>, check: () => void): Promise<void> {
  if (source.stream) {
    let failure: unknown;
    await source.stream((bytes, offset) => {
      check();
      if (failure) throw failure;
      const begin = offset - dataOffset;
      for (const { holder, from, to, at } of parts(holders, begin, begin + bytes.length)) {
        holder.store(at, to - from, target => target.set(bytes.subarray(from - begin, to - begin))).catch(error => { failure = error; });
      }
    });
    if (failure) throw failure;
    return;
  }
  const total = holders.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
  let done = 0;
  for (const holder of holders) {
    for (const { begin, end, at } of holder.runs) {
      for (let from = begin; from < end;) {
        signal?.throwIfAborted();
        check();
        const length = Math.min(READ_CHUNK, end - from), offset = dataOffset + from;
        await holder.store(at + from - begin, length, target => source.read(target, offset));
        from += length;
        onProgress?.(done += length, total);
      }
    }
  }
}

/** Which holders want what of bytes [begin, end) of the data section. */
function* parts(holders: readonly Holder[], begin: number, end: number): Generator<{ holder: Holder; from: number; to: number; at: number }> {
  for (const holder of holders) {
    for (const run of holder.runs) {
      const from = Math.max(begin, run.begin), to = Math.min(end, run.end);
      if (from < to) yield { holder, from, to, at: run.at + from - run.begin };
    }
  }
}

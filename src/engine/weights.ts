/** Weights from a file, or as they are made, into the memories that hold them. */
import type { ByteSource, PackedHeader } from '../formats/types.js';
import type { Member } from './member.js';
import type { Run } from './plan.js';
import type { EngineOptions } from './types.js';

/** Bytes read at once, and reads under way: pages of memory that is new are cleared while they are filled, on more than one core. */
const READ_CHUNK = 8 << 20, READ_LANES = 4;

/** A memory, here or elsewhere. */
export interface Holder {
  /** What it holds of the data section. */
  readonly runs: readonly Run[];
  readonly weightBytes: number;
  /** Stores the `length` bytes that `fill` writes at an address. `fill` is called at once. */
  store(at: number, length: number, fill: (target: Uint8Array) => Promise<void> | void): Promise<void>;
  /** These bytes of memory, where any thread can write them; undefined: it cannot. */
  place?(at: number, length: number): Uint8Array | undefined;
}

export const holderOf = ({ memory, plan }: Member): Holder => ({
  ...plan,
  async store(at, length, fill) { await fill(new Uint8Array(memory.buffer, at, length)); },
  place: (at, length) => memory.buffer instanceof ArrayBuffer ? undefined : new Uint8Array(memory.buffer, at, length),
});

/** @param check throws where there is no use in going on */
export async function loadWeights(source: ByteSource, { dataOffset }: PackedHeader, holders: readonly Holder[], { onProgress, signal }: Pick<EngineOptions, 'onProgress' | 'signal'>, check: () => void): Promise<void> {
  if (source.stream) {
    let failure: unknown;
    await source.stream({
      write(bytes, offset) {
        check();
        if (failure) throw failure;
        const begin = offset - dataOffset;
        for (const { holder, from, to, at } of parts(holders, begin, begin + bytes.length)) {
          holder.store(at, to - from, target => target.set(bytes.subarray(from - begin, to - begin))).catch(error => { failure = error; });
        }
      },
      place(offset, length) {
        check();
        const begin = offset - dataOffset, [part, ...others] = parts(holders, begin, begin + length);
        return part && others.length === 0 && part.to - part.from === length ? part.holder.place?.(part.at, length) : undefined;
      },
    });
    if (failure) throw failure;
    return;
  }
  const total = holders.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
  let done = 0, failed = false;
  const waiting = chunks(holders), lane = async () => {
    for (let next = waiting.next(); !failed && !next.done; next = waiting.next()) {
      signal?.throwIfAborted();
      check();
      const { holder, from, length, at } = next.value;
      await holder.store(at, length, target => source.read(target, dataOffset + from));
      onProgress?.(done += length, total);
    }
  };
  // All have ended before anybody closes the source.
  const results = await Promise.allSettled(Array.from({ length: READ_LANES }, () => lane().catch(error => {
    failed = true;
    throw error;
  })));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

/** What is read at once: bytes of the data section from `from` on. */
function* chunks(holders: readonly Holder[]): Generator<{ holder: Holder; from: number; length: number; at: number }> {
  for (const holder of holders) {
    for (const { begin, end, at } of holder.runs) {
      for (let from = begin; from < end; from += READ_CHUNK) yield { holder, from, length: Math.min(READ_CHUNK, end - from), at: at + from - begin };
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

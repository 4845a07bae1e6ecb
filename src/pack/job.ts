/** One job of packing: a message in, a message out. */
import type { Peer } from '../platform/platform.js';
import { NotFiniteError, type CodedJob, type Packers, type RowsJob, type TilesJob } from './packers.js';

/** `spare`: buffers for results; `spent`: those of the job's source. */
export type Request = { id: number; spare: ArrayBuffer[] } & ({ sum: RowsJob } | { oneScale: RowsJob } | { tiles: TilesJob } | { coded: CodedJob });
export type Reply = { id: number; spent: ArrayBuffer[] } & ({ result: unknown } | { notFinite: true } | { error: string });

const buffersOf = (parts: Uint8Array[]) => parts.map(part => part.buffer as ArrayBuffer);

export async function work(message: Request, packers: Packers | Promise<Packers>, parent: Pick<Peer, 'post'>): Promise<void> {
  const { id, spare } = message, { codes, scales } = 'sum' in message ? message.sum : 'oneScale' in message ? message.oneScale : 'tiles' in message ? message.tiles : message.coded;
  const spent = [codes, scales].flatMap(bytes => bytes ? [bytes.buffer as ArrayBuffer] : []);
  try {
    const ready = await packers;
    ready.buffers.give(...spare);
    if ('sum' in message) {
      parent.post({ id, spent, result: ready.sumAbs(message.sum) } satisfies Reply, spent);
    } else if ('oneScale' in message) {
      parent.post({ id, spent, result: ready.oneScale(message.oneScale) } satisfies Reply, spent);
    } else {
      const result = 'tiles' in message ? ready.tiles(message.tiles) : ready.codedTiles(message.coded);
      const parts = 'tiles' in message && message.tiles.into ? [] : result.parts;
      parent.post({ id, spent, result: { ...result, parts } } satisfies Reply, [...spent, result.rowScale.buffer, ...buffersOf(parts)]);
    }
  } catch (error) {
    parent.post((error instanceof NotFiniteError ? { id, spent, notFinite: true } : { id, spent, error: String(error) }) satisfies Reply, spent);
  }
}

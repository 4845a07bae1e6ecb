/** A packing worker: jobs in, tiles out, one after the other. It is started with the compiled packers. */
import { connect } from '../platform/platform.js';
import { NotFiniteError, Packers, type CodedJob, type RowsJob, type TilesJob } from './packers.js';

export type Request = { id: number } & ({ sum: RowsJob } | { oneScale: RowsJob } | { tiles: TilesJob } | { coded: CodedJob });
export type Reply = { id: number } & ({ result: unknown } | { notFinite: true } | { error: string });

const { init, parent: peer } = await connect<{ module: WebAssembly.Module }>();
const packers = Packers.create(init.module);

peer.onMessage(async (message: Request) => {
  const { id } = message;
  try {
    const ready = await packers;
    if ('sum' in message) {
      peer.post({ id, result: ready.sumAbs(message.sum) } satisfies Reply);
    } else if ('oneScale' in message) {
      peer.post({ id, result: ready.oneScale(message.oneScale) } satisfies Reply);
    } else {
      const result = 'tiles' in message ? ready.tiles(message.tiles) : ready.codedTiles(message.coded);
      peer.post({ id, result } satisfies Reply, [result.rowScale.buffer, ...result.parts.map(part => part.buffer)]);
    }
  } catch (error) {
    peer.post((error instanceof NotFiniteError ? { id, notFinite: true } : { id, error: String(error) }) satisfies Reply);
  }
});

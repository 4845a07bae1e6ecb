/** A packing worker: jobs in, tiles out, one after the other. It is started with the compiled packers. */
import { connect } from '../platform/platform.js';
import { NotFiniteError, Packers, type RowsJob, type TilesJob } from './packers.js';

export type Request = { id: number } & ({ sum: RowsJob } | { fitHalves: RowsJob } | { tiles: TilesJob });
export type Reply = { id: number } & ({ result: unknown } | { notFinite: true } | { error: string });

const { init, parent: peer } = await connect<{ module: WebAssembly.Module }>();
const packers = Packers.create(init.module);

peer.onMessage(async (message: Request) => {
  const { id } = message;
  try {
    const ready = await packers;
    if ('sum' in message) {
      peer.post({ id, result: ready.sumAbs(message.sum) } satisfies Reply);
    } else if ('fitHalves' in message) {
      peer.post({ id, result: ready.fitHalves(message.fitHalves) } satisfies Reply);
    } else {
      const result = ready.tiles(message.tiles);
      peer.post({ id, result } satisfies Reply, [result.rowScale.buffer, ...result.parts.map(part => part.buffer)]);
    }
  } catch (error) {
    peer.post((error instanceof NotFiniteError ? { id, notFinite: true } : { id, error: String(error) }) satisfies Reply);
  }
});

/** A packing worker: jobs in, tiles out, one after the other. It is started with the compiled packers. */
import { connect } from '../platform/platform.js';
import { work, type Request } from './job.js';
import { Packers } from './packers.js';

connect<{ module: WebAssembly.Module }>(({ module }, parent) => {
  const packers = Packers.create(module);
  parent.onMessage((message: Request) => work(message, packers, parent));
});

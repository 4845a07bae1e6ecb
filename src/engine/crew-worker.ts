/** A further thread of the engine: follows rank 0 until it is dismissed. A file of its own, as each of them holds what it is started from. */
import { STACK_BYTES } from '../generated/layout.js';
import { connect } from '../platform/platform.js';
import { instantiate } from './instance.js';

export interface CrewInit {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  rank: number;
  /** Address of the stacks; rank r has the r-th. */
  stacks: number;
}

/** First it says 'ready'; then it blocks. A trap is told to the others through the shared memory, so that none waits for ever. */
connect<CrewInit>(({ module, memory, rank, stacks }, parent) => {
  const exports = instantiate(module, memory);
  exports.setStack(stacks + (rank + 1) * STACK_BYTES);
  parent.post('ready');
  try {
    exports.follow(rank);
  } catch (error) {
    exports.fail();
    throw error;
  }
});

/** A further thread of the engine: follows rank 0 until it is dismissed. */
import { STACK_BYTES } from '../generated/layout.js';
import type { Peer } from '../platform/platform.js';
import { instantiate } from './instance.js';

export interface CrewInit {
  role: 'crew';
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  rank: number;
  /** Address of the stacks; rank r has the r-th. */
  stacks: number;
}

/** First it says 'ready'; then it blocks. A trap is told to the others through the shared memory, so that none waits for ever. */
export function runCrew(parent: Peer, { module, memory, rank, stacks }: CrewInit): void {
  const exports = instantiate(module, memory);
  exports.setStack(stacks + (rank + 1) * STACK_BYTES);
  parent.post('ready');
  try {
    exports.follow(rank);
  } catch (error) {
    exports.fail();
    throw error;
  }
}

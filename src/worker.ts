/** The worker's file. Its first message says what it is: the runtime of a model, or one of its engine's helper threads. */
import { runCrew, type CrewInit } from './engine/crew-worker.js';
import { createEngine } from './engine/engine.js';
import { parent } from './platform/platform.js';
import { serveRuntime } from './runtime/runtime.js';
import { openPacked } from './runtime/source.js';

const peer = await parent();
let begun = false;
peer.onMessage((init: { role: 'runtime' } | CrewInit) => {
  if (begun) return;
  begun = true;
  if (init.role === 'crew') void runCrew(init);
  else serveRuntime(peer, { openPacked, createEngine });
});

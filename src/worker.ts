/** The worker's file: the runtime of a model, or one of its engine's helper threads. */
import { runCrew, type CrewInit } from './engine/crew-worker.js';
import { createEngine } from './engine/engine.js';
import { connect } from './platform/platform.js';
import { serveRuntime } from './runtime/runtime.js';
import { openForEngine } from './runtime/source.js';

connect<{ role: 'runtime' } | CrewInit>((init, parent) => {
  if (init.role === 'crew') runCrew(parent, init);
  else serveRuntime(parent, { openPacked: openForEngine, createEngine });
});

/** The worker's file: the runtime of a model, or one of its engine's crew. */
import { runCrew, type CrewInit } from './engine/crew-worker.js';
import { createEngine } from './engine/engine.js';
import { runPrivate, type PrivateInit } from './engine/private-worker.js';
import { connect } from './platform/platform.js';
import { serveRuntime } from './runtime/runtime.js';
import { openForEngine } from './runtime/source.js';

connect<{ role: 'runtime' } | CrewInit | PrivateInit>((init, parent) => {
  if (init.role === 'crew') runCrew(parent, init);
  else if (init.role === 'private') runPrivate(parent, init);
  else serveRuntime(parent, { openPacked: openForEngine, createEngine });
});

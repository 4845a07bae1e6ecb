/** The worker's file: the runtime of a model, or a member of a private crew. */
import { createEngine } from './engine/engine.js';
import { runPrivate, type PrivateInit } from './engine/private-worker.js';
import { connect } from './platform/platform.js';
import { serveRuntime } from './runtime/runtime.js';
import { openForEngine } from './runtime/source.js';

connect<{ role: 'runtime' } | PrivateInit>((init, parent) => {
  if (init.role === 'private') runPrivate(parent, init);
  else serveRuntime(parent, { openPacked: openForEngine, createEngine });
});

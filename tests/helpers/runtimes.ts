/** Other versions of Node; the runner has installed them before a test that imports this starts. */
export { majors, nodeBinary } from '../../build/runtimes.mjs';

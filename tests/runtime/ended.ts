/** What becomes of a model that is ended at every stage of its life, in every way; run in server runtimes and on pages. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { writePacked } from '../engine/files.js';
import { randomModel } from '../engine/models.js';
import { startHub, type Hub } from '../helpers/hub.js';
import { repoRoot } from '../helpers/paths.js';

export interface Ended {
  stage: 'download' | 'load' | 'prefill' | 'decode';
  /** Who ends it: a signal, the caller, somebody who ends its worker, a thread beside it, or the page (a frame). */
  way: 'abort' | 'dispose' | 'worker' | 'thread' | 'page';
  /** What the call rejected with: code or message. */
  error: string;
  /** What the next call rejected with, where there is a model. */
  next: string | undefined;
  /** Milliseconds from the end to the rejection. */
  took: number;
  /** Progress and pieces that came later. */
  late: number;
}
export interface EndedArgs { slow: string; model: string; threads: number; rounds: number }

/** Prepended to worker.js: on demand the thread beside it is ended while it waits, as it does in a pass. */
const KILLER = `{
  const threads = globalThis.process?.getBuiltinModule?.('node:worker_threads'), owner = threads ?? globalThis, Original = owner.Worker, started = [];
  if (Original) owner.Worker = class extends Original { constructor(...args) { super(...args); started.push(this); } };
  const heard = data => {
    if (!data.endThread) return;
    started[0].terminate();
    // Chromium ends a worker only once its parent has been at its event loop, two seconds later.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2500);
  };
  if (threads) threads.parentPort?.on('message', heard);
  else addEventListener('message', event => heard(event.data));
}
`;

/** The package in `folder`, with such a worker. */
export function placeKiller(folder: string): void {
  cpSync(join(repoRoot, 'dist'), folder, { recursive: true, filter: path => !path.includes('.build') });
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(folder, 'worker.js'), KILLER + readFileSync(join(repoRoot, 'dist', 'worker.js'), 'utf8'));
}

/** A hub with a model of 40 MB, and the same one that never arrives: `waiting` requests of it have not been given up. */
export async function hubWith(folder: string): Promise<Hub & { waiting: number }> {
  const path = join(folder, 'big.lutra.safetensors');
  await writePacked(path, randomModel('40 MB', { layout: 'int8', planes: 0, groupSize: 0, coding: 'none' }, { dim: 1024, nHeads: 8, headDim: 128, hiddenDim: 4096, contextLength: 2048 }));
  const bytes = readFileSync(path);
  const hub = Object.assign(await startHub('org/repo', { 'big.lutra.safetensors': bytes, 'slow.lutra.safetensors': bytes }), { waiting: 0 });
  hub.faults = { handle: (request, response) => {
    const begin = /^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? (request.headers.range ? undefined : '0');
    if (!request.url!.startsWith('/slow') || begin === undefined) return false;
    const size = bytes.length, from = Number(begin);
    response.writeHead(begin === '0' ? 200 : 206, {
      'access-control-allow-origin': '*', 'access-control-expose-headers': '*', 'content-length': size - from, ...(from > 0 && { 'content-range': `bytes ${from}-${size - 1}/${size}` }),
    });
    hub.waiting++;
    response.on('close', () => { hub.waiting--; });
    response.write(bytes.subarray(from, from + (from < size / 2 ? 1 << 20 : 0)));
    return true;
  } };
  return hub;
}

/** Loads and writes in a frame, and says when it is in the middle of the stage. */
export const frame = `<!doctype html><script type="module">
  import { loadModel } from '/lutra/index.js';
  const { stage, location, threads } = Object.fromEntries(new URLSearchParams(self.location.search)), middle = () => parent.postMessage('middle', '*');
  const model = await loadModel(location, { threads: Number(threads), context: 2048, onProgress: ({ phase, loaded, total }) => { if (phase === stage && loaded > 0 && loaded < total) middle(); } });
  if (stage === 'prefill') setTimeout(middle, 60);
  const ids = Array.from({ length: stage === 'prefill' ? 1500 : 4 }, (_, i) => 3 + i % 500);
  for await (const _ of model.generate(ids, { temperature: 0, maxTokens: 500 })) middle();
</script>`;

/** Runs elsewhere. `mark` is called after each round; what it gives is returned beside what happened. */
export const endAll = async (lutra: typeof import('lutra'), { slow, model: location, threads, rounds }: EndedArgs): Promise<{ all: Ended[]; marks: number[] }> => {
  const server = globalThis.process?.getBuiltinModule?.('node:worker_threads'), owner: any = server ?? globalThis, Original = owner.Worker, workers: Worker[] = [];
  owner.Worker = class extends Original {
    constructor(...args: unknown[]) { super(...args); workers.push(this as unknown as Worker); }
  };
  const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms));
  const memory = async (): Promise<number> => {
    (globalThis as any).gc?.();
    await pause(server ? 300 : 4000); // Chromium lets a worker go on for two seconds
    return server ? process.memoryUsage().rss : Number(await (await fetch('/memory')).text());
  };
  const nameOf = (error: any): string => error.code && typeof error.code === 'string' ? error.code : error.message;
  const all: Ended[] = [], marks: number[] = [];

  const closeFrame = async (stage: Ended['stage']): Promise<void> => {
    const frame = document.createElement('iframe');
    frame.src = `/frame.html?${new URLSearchParams({ stage, location: stage === 'download' ? slow : location, threads: String(threads) })}`;
    const middle = new Promise(resolve => addEventListener('message', resolve, { once: true }));
    document.body.append(frame);
    await middle;
    frame.remove();
    let late = 0;
    const count = () => { late++; };
    await pause(50);
    addEventListener('message', count);
    await pause(50);
    removeEventListener('message', count);
    all.push({ stage, way: 'page', error: '', next: undefined, took: 0, late });
  };

  const one = async (stage: Ended['stage'], way: Ended['way']): Promise<void> => {
    if (way === 'page') return closeFrame(stage);
    const stopper = new AbortController();
    let ended = 0, settled = false, late = 0, model: import('lutra').Model | undefined;
    const end = () => {
      if (ended) return;
      ended = performance.now();
      if (way === 'abort') stopper.abort(new Error('enough'));
      else if (way === 'dispose') void model!.dispose();
      else if (way === 'worker') void workers.at(-1)!.terminate();
      else workers.at(-1)!.postMessage({ endThread: true });
    };
    const onProgress = ({ phase, loaded, total }: { phase: string; loaded: number; total: number }) => {
      if (settled) late++;
      if (phase === stage && loaded > 0 && loaded < total) end();
    };
    const run = async () => {
      model = await lutra.loadModel(stage === 'download' ? slow : location, { threads, context: 2048, onProgress, ...(stage === 'download' || stage === 'load' ? { signal: stopper.signal } : {}) });
      const ids = Array.from({ length: stage === 'prefill' ? 1500 : 4 }, (_, i) => 3 + i % 500);
      const generation = model.generate(ids, { signal: stopper.signal, temperature: 0, maxTokens: 500 });
      if (stage === 'prefill') setTimeout(end, 60);
      let tokens = 0;
      for await (const _ of generation) {
        if (settled) late++;
        if (stage === 'decode' && ++tokens === 3) end();
      }
    };
    const error = await run().then(() => new Error('nothing happened'), error => error), took = performance.now() - ended;
    settled = true;
    await pause(50);
    const next = way === 'abort' ? undefined : await model?.tokenize('abc').then(() => 'an answer', nameOf);
    await model?.dispose();
    all.push({ stage, way, error: nameOf(error), next, took, late });
  };

  for (let round = 0; round < rounds; round++) {
    for (const stage of ['download', 'load', 'prefill', 'decode'] as const) {
      const ways = ['abort', 'worker', ...(stage === 'prefill' || stage === 'decode' ? ['dispose', ...(threads > 1 && (server || round === 0) ? ['thread'] : [])] : []), ...(server ? [] : ['page'])];
      for (const way of ways) await one(stage, way as Ended['way']);
    }
    marks.push(await memory());
  }
  return { all, marks };
};

/** @param growth bytes by which memory may grow from the first round to the last: less than one model a round */
export function checkEnded({ all, marks }: Awaited<ReturnType<typeof endAll>>, { threads, rounds, growth, page = false }: { threads: number; rounds: number; growth: number; page?: boolean }): void {
  // Chromium keeps some of the memory of a model whose thread somebody ends: on pages that is done in the first round only.
  assert.is(all.length, rounds * (page ? 14 : 10) + (threads > 1 ? 2 * (page ? 1 : rounds) : 0));
  for (const { stage, way, error, next, took, late } of all) {
    const what = `${stage}, ${way}`, expected = { abort: 'enough', dispose: 'DISPOSED', worker: 'ENGINE_CRASH', thread: 'ENGINE_CRASH', page: '' }[way];
    assert.is(error, expected, what);
    assert.is(next, way === 'abort' || way === 'page' || stage === 'download' || stage === 'load' ? undefined : expected, what);
    assert.is(late, 0, `${what}: something came after the rejection`);
    // Far from what a busy machine takes, and from the minute after which a thread gives up waiting for another.
    assert.ok(took < 10_000, `${what}: ${took} ms`);
  }
  assert.ok(marks.at(-1)! - marks[0]! < growth, `MB after each round: ${marks.map(bytes => Math.round(bytes / 1e6)).join(', ')}`);
}

/** The same tokens through every build of the engine, every number of threads, kernels and reference. */
import { createHash } from 'node:crypto';
import * as assert from 'uvu/assert';
import { createEngine, type LocalEngine } from '../../src/engine/engine.js';
import { hasRelaxedSimd } from '../../src/engine/instance.js';
import type { Threads } from '../../src/engine/threads.js';
import type { EngineOptions } from '../../src/engine/types.js';
import { readPackedHeader } from '../../src/formats/packed.js';
import { openFile } from '../../src/platform/platform.js';
import { everyFormat, type TestModel } from './models.js';

export const defaults: EngineOptions = { threads: 1, variant: 'simd', context: 128, maxSessions: 1, reference: false };
export const tiers = hasRelaxedSimd() ? ['simd', 'relaxed'] as const : ['simd'] as const;
const sampling = { temperature: 1, topK: 0, topP: 0.95, minP: 0, repetitionPenalty: 1.1, seed: 7n };
export const tokens = (n: number, seed = 0) => Array.from({ length: n }, (_, i) => (i * (37 + seed) + seed) % 259 + 3);

/** Stores `ids` from `position` on, at most `chunk` a pass; the hash covers the logits of every row. */
export async function feed(engine: LocalEngine, session: number, ids: readonly number[], position = 0, chunk = engine.maxRows): Promise<bigint> {
  let hash = 0n;
  for (let at = 0; at < ids.length; at += chunk) {
    const rows = ids.slice(at, at + chunk).map((token, i) => ({ session, position: position + at + i, token, wantLogits: true }));
    await engine.forward(rows);
    rows.forEach((_, i) => { hash = engine.hashLogits(i, hash); });
  }
  return hash;
}

const digest = (kv: Uint8Array) => createHash('sha256').update(kv.slice()).digest('hex').slice(0, 16);

/** A prompt and tokens drawn after it: ids, a hash of all logits and the KV cache. */
export async function outcome(engine: LocalEngine): Promise<string> {
  const session = engine.openSession(), prompt = tokens(45), ids: number[] = [];
  let hash = await feed(engine, session, prompt);
  for (let i = 0; i < 6; i++) {
    ids.push(engine.sample((i === 0 ? prompt.length % engine.maxRows : 1) - 1, sampling, i, ids));
    hash = hash * 31n + await feed(engine, session, [ids[i]!], prompt.length + i);
  }
  engine.closeSession(session);
  return `${ids} ${BigInt.asUintN(64, hash).toString(16)} ${digest(engine.kv(session))}`;
}

async function openModel(path: string): Promise<TestModel> {
  const source = await openFile(path);
  return { name: path, header: await readPackedHeader(source), source };
}

/**
 * Outcome by model; rejects where two ways of running one model differ, or where something else ran than was asked for.
 * @param reference whether the reference, which is slow, is one of the ways
 */
export async function runMatrix(paths: readonly string[], reference: boolean): Promise<Record<string, string>> {
  const outcomes: Record<string, string> = {};
  for (const model of [...everyFormat(), ...await Promise.all(paths.map(openModel))]) {
    const ways: Partial<EngineOptions>[] = tiers.flatMap(variant => [1, 2, 3, 4].map(threads => ({ variant, threads })));
    for (const way of [...ways, ...(reference ? [{ reference: true }, { reference: true, threads: 3 }] : [])]) {
      const options = { ...defaults, ...model.options, ...way }, engine = await createEngine(model.source, model.header, options);
      const shared = options.threads as number > 1, what = `${model.name}: ${JSON.stringify(way)}`;
      try {
        const { wasm, crew, threads, level, kernels } = engine.info;
        assert.equal({ wasm, crew, threads, level }, {
          wasm: `${options.variant}${shared ? '-shared' : ''}`, crew: shared ? 'shared' : 'single', threads: options.threads, level: options.reference ? 'reference' : 'kernels',
        }, what);
        const { layout, planes, coding } = model.header.linears['layers.0.attn.q']!.parts[0]!;
        const name = layout === 'planes' || layout === 'uniform' ? `${layout}${planes}-${coding}-` : coding === 'none' ? layout : `${layout}-${coding}`;
        assert.ok(Object.keys(kernels).some(kernel => kernel.startsWith(name)), `${what}: ${Object.keys(kernels)}`);

        assert.is(await outcome(engine), outcomes[model.name] ??= await outcome(engine), what);
        // What `auto` does when one thread is the fastest.
        if (options.threads === 2) (engine.crew as Threads).active = 1, assert.is(await outcome(engine), outcomes[model.name], `${what}, one at work`);
      } finally {
        await engine.dispose();
      }
    }
  }
  return outcomes;
}

/** One golden file, reproduced everywhere: every runtime with the SIMD tiers and crews that it has. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { loadModel } from 'lutra';
import { runtime } from '../../build/runtimes.mjs';
import { runOnPage, runOnServer, withoutSharing } from '../helpers/elsewhere.js';
import type { BrowserName } from '../helpers/browser.js';
import { repoRoot } from '../helpers/paths.js';
import type { Case, MatrixModel, Outcome } from './models.js';

/** How a model is run; `crew` is what it must come to. */
export interface Way { variant: 'simd' | 'relaxed'; threads: number; crew: 'shared' | 'private' | 'single' }

/** A place where the package runs, and what is known to be there: a way that is missing is a failure. Threads without shared memory are a private crew. */
export interface Place {
  name: string;
  runtime: string;
  relaxed: boolean;
  shared: boolean;
  /** Serve the page with the headers of isolation. */
  isolated?: boolean;
  entry?: string;
  /** An emulated processor: full answers with one way of running the small model, short ones otherwise. */
  slow?: boolean;
  env?: Record<string, string>;
}

/** npm's last Node for 32-bit ARM is 20.11, which lacks one function of 20.16. */
const builtinModules = `--import=data:text/javascript,${encodeURIComponent(
  'import { createRequire } from "node:module"; const require = createRequire("/"); process.getBuiltinModule ??= name => require(name);')}`;

export const places: Place[] = [
  { name: 'Node 20', runtime: 'node-20', relaxed: false, shared: true },
  ...[22, 24, 26].map(major => ({ name: `Node ${major}`, runtime: `node-${major}`, relaxed: true, shared: true })),
  { name: 'Node 24, nothing shared', runtime: 'node-24', relaxed: true, shared: false, env: withoutSharing },
  { name: 'Deno', runtime: 'deno', relaxed: true, shared: true },
  { name: 'Bun', runtime: 'bun', relaxed: true, shared: true },
  { name: 'Chromium, isolated', runtime: 'chromium', relaxed: true, shared: true, isolated: true },
  { name: 'Chromium, inline', runtime: 'chromium', relaxed: true, shared: false, entry: '/dist/inline.js' },
  { name: 'Firefox, isolated', runtime: 'firefox', relaxed: true, shared: true, isolated: true },
  { name: 'Firefox, inline', runtime: 'firefox', relaxed: true, shared: false, entry: '/dist/inline.js' },
  { name: 'WebKitGTK', runtime: 'webkit', relaxed: false, shared: false, isolated: true },
  { name: 'WebKitGTK, inline', runtime: 'webkit', relaxed: false, shared: false, entry: '/dist/inline.js' },
  { name: 'Node 24, ARM64 (qemu)', runtime: 'node-24-arm64', relaxed: true, shared: true, slow: true },
  { name: 'Node 20, 32-bit ARM (qemu)', runtime: 'node-20-armv7l', relaxed: false, shared: true, slow: true, env: { NODE_OPTIONS: builtinModules } },
];

export const waysOf = ({ relaxed, shared }: Place): Way[] => (relaxed ? ['simd', 'relaxed'] as const : ['simd'] as const)
  .flatMap(variant => [1, 2, 4].map(threads => ({ variant, threads, crew: threads === 1 ? 'single' : shared ? 'shared' : 'private' } as const)));

interface Plan { model: string; ways: { way: Way; cases: Record<string, Case> }[] }
export interface Run { way: Way; wasm: string; crew: string; crewReason: string; threads: number; outcomes: Record<string, Outcome> }

/** Runs in the place itself. */
const job = async (lutra: typeof import('lutra'), { model: location, ways }: Plan): Promise<Run[]> => {
  const runs: Run[] = [];
  for (const { way, cases } of ways) {
    const source = location.startsWith('/model/') ? await (await fetch(location)).arrayBuffer() : location;
    const model = await lutra.loadModel(source, { variant: way.variant, threads: way.threads, context: 128 });
    const outcomes: Record<string, Outcome> = {};
    for (const [name, { prompt, options }] of Object.entries(cases)) {
      const { ids, logitsHash } = await model.generate(prompt, { ...options, hashLogits: true }).result;
      outcomes[name] = { ids, logitsHash: logitsHash! };
    }
    const { wasm, crew, crewReason, threads } = model.info();
    runs.push({ way, wasm, crew, crewReason, threads, outcomes });
    await model.dispose();
  }
  return runs;
};

/** The cases that a way has to reproduce: all, but on a slow processor once. */
function casesOf({ slow }: Place, model: MatrixModel, index: number): Record<string, Case> | undefined {
  const { name, cases } = model;
  if (!slow || (name === 'stories' && index === 0)) return cases;
  return name === 'stories' || index === 1 ? { short: cases.short! } : undefined;
}

/**
 * WebKitGTK 2.50 was seen once to report an access out of bounds for bytes and an input that it and all others run otherwise
 * (docs/architecture.md, "Seen once"). So one such report is printed and the run repeated; a second in a row is ours.
 */
const isTrap = (error: Error & { remote?: { code?: string } }) => error.remote?.code === 'ENGINE_CRASH' && error.message.includes('Out of bounds memory access');

/** @returns the runs of a model in a place, or why there are none */
export async function runPlace(place: Place, model: MatrixModel): Promise<{ runs: Run[] } | { missing: string }> {
  const found = await runtime(place.runtime);
  if ('missing' in found) return found;
  const ways = waysOf(place).map((way, i) => ({ way, cases: casesOf(place, model, i)! })).filter(({ cases }) => cases);
  const limit = 240_000;
  if (['chromium', 'firefox', 'webkit'].includes(place.runtime)) {
    const { isolated = false, entry = '/dist/index.js' } = place;
    const run = () => runOnPage(place.runtime as BrowserName, job, { model: '/model/it', ways }, { isolated, entry, limit, files: { '/model/it': model.path } });
    return { runs: await run().catch(error => {
      if (place.runtime !== 'webkit' || !isTrap(error)) throw error;
      console.log(`RETRIED ${model.name}: ${place.name}: ${error.message.replaceAll('\n', ' | ')}`);
      return run();
    }) };
  }
  return { runs: await runOnServer(found.command, job, { model: model.path, ways }, { limit, ...(place.env && { env: place.env }) }) };
}

/** What is wrong with a run; '' when it is the golden one, made as it was asked for. */
export function verdict({ way, wasm, crew, crewReason, threads, outcomes }: Run, golden: Record<string, Outcome>): string {
  const expected = `${way.variant}${way.crew === 'shared' ? '-shared' : ''}, ${way.crew}, ${way.threads}`;
  const actual = `${wasm}, ${crew}, ${threads}`;
  if (actual !== expected) return `ran as ${actual} instead of ${expected}: ${crewReason}`;
  const wrong = Object.keys(outcomes).filter(name => !isDeepStrictEqual(outcomes[name], golden[name]));
  return wrong.length === 0 ? '' : `${wrong.join(', ')}: other tokens or logits`;
}

const goldenFile = join(repoRoot, 'tests', 'golden', 'matrix.json');
type Golden = Record<string, { sha256: string; outcomes: Record<string, Outcome> }>;
const readGolden = (): Golden => JSON.parse(readFileSync(goldenFile, 'utf8'));
export const UPDATE = 'npm run matrix -- --update';

/** @throws when it was made with other bytes of the model */
export function goldenOf({ name, sha256 }: MatrixModel): Record<string, Outcome> {
  const entry = readGolden()[name];
  if (entry?.sha256 !== sha256) throw new Error(`tests/golden/matrix.json was not made with this ${name}. If it is the right one: ${UPDATE}`);
  return entry.outcomes;
}

/** Makes the golden file, with the scalar code that defines the arithmetic. Models that are not there keep their entries. */
export async function updateGolden(models: readonly MatrixModel[], say: (line: string) => void): Promise<void> {
  const golden = readGolden();
  for (const { name, path, sha256, cases } of models) {
    await using model = await loadModel(path, { reference: true, context: 128 });
    const outcomes: Record<string, Outcome> = {};
    for (const [key, { prompt, options }] of Object.entries(cases)) {
      const { ids, logitsHash, text } = await model.generate(prompt, { ...options, hashLogits: true }).result;
      outcomes[key] = { ids, logitsHash: logitsHash! };
      say(`${name}, ${key}: ${prompt}${text.replace(/\s+/g, ' ')}`);
    }
    golden[name] = { sha256, outcomes };
  }
  const text = JSON.stringify(golden, null, 1).replace(/\[[\s\d,]+\]/g, list => list.replace(/\s+/g, ' '));
  writeFileSync(goldenFile, `${text}\n`);
}

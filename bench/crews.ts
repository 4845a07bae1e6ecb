/** Several workers with memories of their own against one, where threads cannot share memory: in Node and in Chromium. */
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runtime } from '../build/runtimes.mjs';
import { writePacked } from '../tests/engine/files.js';
import { runOnPage, runOnServer, withoutSharing } from '../tests/helpers/elsewhere.js';
import { reasonOf } from './contestant.js';
import type { BenchModel } from './models.js';
import { median } from './stats.js';

export interface CrewPlan { counts: number[]; rounds: number; prompt: number; generated: number; variant: 'simd' | 'relaxed' | 'auto' }
/** Tokens a second by round and number of workers. */
export interface CrewRow { place: string; counts: number[]; prefill: number[][]; decode: number[][] }

/** Runs in the place itself. @throws where two numbers of workers do not give the same */
const job = async (lutra: typeof import('lutra'), { location, counts, rounds, prompt, generated, variant }: CrewPlan & { location: string }): Promise<Pick<CrewRow, 'prefill' | 'decode'>> => {
  const models = [], ids = Array.from({ length: prompt }, (_, i) => 3 + 7 * i % 97), hashes = new Set<string>();
  for (const threads of counts) {
    const source = location.startsWith('/model/') ? await (await fetch(location)).arrayBuffer() : location;
    const model = await lutra.loadModel(source, { crew: 'private', threads, variant, context: prompt + generated });
    const { crew, threads: got } = model.info();
    if (got !== threads || crew !== (threads === 1 ? 'single' : 'private')) throw new Error(`asked for ${threads} workers, got ${crew}, ${got}`);
    hashes.add((await model.generate(ids, { temperature: 0, maxTokens: 8, hashLogits: true }).result).logitsHash!);
    models.push(model);
  }
  if (hashes.size !== 1) throw new Error('other logits with another number of workers');
  const prefill: number[][] = [], decode: number[][] = [];
  for (let round = 0; round < rounds; round++) {
    const results = [];
    for (const model of models) results.push((await model.generate(ids.map(id => id + 1 + round), { temperature: 0, maxTokens: generated }).result).timings);
    prefill.push(results.map(timings => timings.prefillTokensPerSecond));
    decode.push(results.map(timings => timings.decodeTokensPerSecond));
  }
  for (const model of models) await model.dispose();
  return { prefill, decode };
};

/** @param only words, one of which a place's name must contain */
export async function benchCrews({ header, source, name }: BenchModel, plan: CrewPlan, only: string[], say: (text: string) => void): Promise<CrewRow[]> {
  const path = join(tmpdir(), `lutra-crews-${process.pid}.safetensors`), rows: CrewRow[] = [], limit = 600_000;
  process.once('exit', () => rmSync(path, { force: true }));
  await writePacked(path, { header, source });
  const places: [string, () => Promise<Pick<CrewRow, 'prefill' | 'decode'>>][] = [
    [`Node ${process.versions.node}`, () => runOnServer([process.execPath], job, { ...plan, location: path }, { limit, env: withoutSharing })],
    ['Chromium, not isolated', async () => {
      const found = await runtime('chromium');
      if ('missing' in found) throw new Error(found.missing);
      return runOnPage('chromium', job, { ...plan, location: '/model/it' }, { limit, files: { '/model/it': path } });
    }],
  ];
  for (const [place, run] of places) {
    if (only.length > 0 && !only.some(word => place.toLowerCase().includes(word))) continue;
    say(`${name}: ${place}`);
    try {
      rows.push({ place, counts: plan.counts, ...await run() });
    } catch (error) {
      say(`Not measured: ${place}: ${reasonOf(error)}`);
    }
  }
  rmSync(path, { force: true });
  return rows;
}

export function crewTable(rows: readonly CrewRow[]): string {
  const lines = rows.flatMap(({ place, counts, prefill, decode }) => counts.map((count, i) => {
    const rate = (rounds: number[][]) => median(rounds.map(round => round[i]!)).toFixed(2), gain = (rounds: number[][]) => median(rounds.map(round => round[i]! / round[0]!)).toFixed(2);
    return `| ${place} | ${count} | ${rate(prefill)} | ${gain(prefill)} | ${rate(decode)} | ${gain(decode)} |`;
  }));
  return ['Workers with memories of their own; tokens a second and gain over the first line, medians over rounds', '',
    '| place | workers | prefill | gain | decode | gain |', '|---|---|---|---|---|---|', ...lines].join('\n');
}

/** Whole models: contestants take turns, round by round. */
import { reasonOf, type Absent, type Contestant } from './contestant.js';
import type { ReadRate, Roof } from './roof.js';
import { present, ratio, type Rounds } from './stats.js';

export interface Row {
  name: string;
  version: string;
  model: string;
  threads: number;
  bytes: number;
  /** Tokens a second. */
  prefill: Rounds;
  decode: Rounds;
  /** Lutra's rate with as many threads by this one's; null for Lutra. */
  prefillRatio: number | null;
  decodeRatio: number | null;
  /** Bytes read a second by the read rate of the same round: WebAssembly's (its better pattern), native code's for native code. */
  share: number | null;
}

export interface EndToEnd {
  /** The model's name, and its weights that a decode step reads. */
  model: string;
  weights: number;
  prompt: number;
  generated: number;
  rows: Row[];
  roof: { threads: number; rates: ReadRate[] }[];
  absent: Absent[];
}

export interface Plan { prompt: number; generated: number; rounds: number; minutes: number; signal: AbortSignal; onRound: (text: string) => void }

/**
 * A contestant that is slow sits out rounds when it has used up its share of the time, but not its first two;
 * one that fails is left out from then on and named.
 */
export async function race(contestants: readonly Contestant[], roof: Roof, plan: Plan): Promise<Pick<EndToEnd, 'rows' | 'roof' | 'absent'>> {
  const absent: Absent[] = [], counts = [...new Set(contestants.map(({ threads }) => threads))];
  const rates = new Map(counts.map(threads => [threads, [] as ReadRate[]]));
  const entries = contestants.map(contestant => ({ contestant, prefill: [] as Rounds, decode: [] as Rounds, seconds: 0, failed: false }));
  const share = 60 * plan.minutes / contestants.length, begin = performance.now();
  for (let round = 0; round < plan.rounds && !plan.signal.aborted; round++) {
    if (round > 1 && (performance.now() - begin) / 60000 > plan.minutes) break;
    for (const threads of counts) rates.get(threads)!.push(await roof.measure(threads));
    for (const entry of entries) {
      const { name, threads } = entry.contestant;
      const sitsOut = entry.failed || plan.signal.aborted || (round > 1 && entry.seconds * (round + 1) / round > share);
      plan.onRound(`round ${round + 1} of ${plan.rounds}: ${name}, ${threads} thread${threads > 1 ? 's' : ''}`);
      const start = performance.now();
      const got = sitsOut ? null : await entry.contestant.measure(plan.prompt, plan.generated).catch((error: unknown) => {
        entry.failed = true;
        absent.push({ name: `${name}, ${threads} threads`, reason: reasonOf(error) });
        return null;
      });
      entry.seconds += (performance.now() - start) / 1000;
      entry.prefill.push(got?.prefill ?? null);
      entry.decode.push(got?.decode ?? null);
    }
  }
  const measured = entries.filter(({ decode }) => present(decode).length > 0);
  const rows = measured.map(({ contestant: { name, version, model, threads, bytes }, prefill, decode }): Row => {
    const own = name === 'Lutra' ? undefined : measured.find(({ contestant }) => contestant.name === 'Lutra' && contestant.threads === threads);
    const reads = rates.get(threads)!.map(rate => name.includes('native') ? rate.native : Math.max(rate.sequential, rate.streams));
    return {
      name, version, model, threads, bytes, prefill, decode,
      prefillRatio: own ? ratio(own.prefill, prefill) : null, decodeRatio: own ? ratio(own.decode, decode) : null,
      share: ratio(decode.map(value => value === null ? null : value * bytes / 1e9), reads),
    };
  });
  return { rows, absent, roof: counts.map(threads => ({ threads, rates: rates.get(threads)! })) };
}

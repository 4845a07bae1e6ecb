/** Whole models: contestants take turns, round by round. */
import { setTimeout } from 'node:timers/promises';
import { reasonOf, type Absent, type Contestant, type Rates } from './contestant.js';
import { threadsOf } from './report.js';
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

/** Tokens before the first round: compilers optimise, pages of files come into memory. */
const WARM_UP = { prompt: 8, generated: 2 };

/**
 * After a warm-up round. A contestant that is slow sits out rounds when it has used up its share of the time, but not its first two;
 * one that fails, or does not answer in all the time there is, is left out from then on and named.
 */
export async function race(contestants: readonly Contestant[], roof: Roof, plan: Plan): Promise<Pick<EndToEnd, 'rows' | 'roof' | 'absent'>> {
  const absent: Absent[] = [], counts = [...new Set(contestants.map(({ threads }) => threads))];
  const rates = new Map(counts.map(threads => [threads, [] as ReadRate[]]));
  const entries = contestants.map(contestant => ({ contestant, prefill: [] as Rounds, decode: [] as Rounds, seconds: 0, failed: false }));
  const attempt = async (entry: (typeof entries)[number], prompt: number, generated: number): Promise<Rates | null> => {
    if (entry.failed || plan.signal.aborted) return null;
    const { name, threads } = entry.contestant, begin = performance.now();
    const late = new AbortController();
    try {
      return await Promise.race([entry.contestant.measure(prompt, generated),
        setTimeout(60000 * plan.minutes, null, { signal: late.signal }).then(() => { throw new Error(`no answer in ${plan.minutes} minutes`); })]);
    } catch (error) {
      entry.failed = true;
      absent.push({ name: `${name}, ${threadsOf({ threads })}`, reason: reasonOf(error) });
      await entry.contestant.close();
      return null;
    } finally {
      late.abort();
      entry.seconds += (performance.now() - begin) / 1000;
    }
  };
  for (const entry of entries) {
    plan.onRound(`warming up: ${entry.contestant.name}, ${threadsOf(entry.contestant)}`);
    await attempt(entry, WARM_UP.prompt, WARM_UP.generated);
    entry.seconds = 0;
  }
  const share = 60 * plan.minutes / contestants.length, begin = performance.now();
  for (let round = 0; round < plan.rounds && !plan.signal.aborted; round++) {
    if (round > 1 && (performance.now() - begin) / 60000 > plan.minutes) break;
    for (const threads of counts) rates.get(threads)!.push(await roof.measure(threads));
    for (const entry of entries) {
      plan.onRound(`round ${round + 1} of ${plan.rounds}: ${entry.contestant.name}, ${threadsOf(entry.contestant)}`);
      const runs = present(entry.decode).length, sitsOut = runs > 1 && entry.seconds * (runs + 1) / runs > share;
      const got = sitsOut ? null : await attempt(entry, plan.prompt, plan.generated);
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

/** What a run measured, as tables for a terminal. */
import type { EndToEnd } from './end-to-end.js';
import type { KernelRow } from './kernels.js';
import type { ReadRate } from './roof.js';
import { NOISY, median, present, spread, type Rounds } from './stats.js';

export interface Depth { model: string; threads: number; depths: number[]; /** Tokens a second, by depth. */ rates: Rounds[] }

export interface Report {
  machine: { cpu: string; cores: number; gigabytes: number; os: string; node: string; lutra: string; wasm: string; browser?: string; date: string };
  endToEnd: EndToEnd[];
  depth: Depth[];
  kernels: KernelRow[];
  /** One thread, for the kernels. */
  roof: ReadRate | null;
}

const f = (n: number, digits = 1) => n.toFixed(digits);
const percent = (n: number | null) => n === null ? '' : `${f(100 * n, 0)} %`;
const times = (n: number | null) => n === null ? '' : `${f(n, 2)} x`;
export const threadsOf = ({ threads }: { threads: number }) => `${threads} thread${threads > 1 ? 's' : ''}`;
const rate = (rounds: Rounds) => {
  const values = present(rounds);
  return `${f(median(values), median(values) < 10 ? 2 : 1)} ± ${f(100 * spread(values), 0)} %`;
};

function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

export function describeMachine({ cpu, cores, gigabytes, os, node, lutra, wasm, browser, date }: Report['machine']): string {
  return `${cpu}, ${cores} cores, ${gigabytes} GB, ${os}, Node ${node}, ${browser ? `Chromium ${browser}, ` : ''}Lutra ${lutra}${wasm && ` (${wasm})`}, ${date}`;
}

export function endToEndTable({ model, weights, prompt, generated, rows, roof, absent }: EndToEnd): string {
  const roofs = roof.map(({ threads, rates }) => {
    const of = (kind: keyof ReadRate) => f(median(rates.map(one => one[kind])));
    return `${threadsOf({ threads })}: WebAssembly ${of('sequential')} end to end, ${of('streams')} in 8 streams; native ${of('native')}`;
  });
  return [
    `${model}, ${f(weights / 1e6, 0)}M weights a token; medians of the runs ± half the spread; the last two columns: Lutra's rate by this one's, round by round`, '',
    table(['', 'model', 'MB a token', 'threads', 'runs', `pp${prompt} tok/s`, `tg${generated} tok/s`, 'GB/s', 'of the roof', 'Lutra pp', 'Lutra tg'],
      rows.map(row => [row.name === 'Lutra' || row.name.endsWith(row.version) ? row.name : `${row.name} ${row.version}`, row.model, f(row.bytes / 1e6, 0), String(row.threads), String(present(row.decode).length),
        rate(row.prefill), rate(row.decode), f(median(present(row.decode)) * row.bytes / 1e9), percent(row.share), times(row.prefillRatio), times(row.decodeRatio)])),
    '', `Memory is read at (GB/s) ${roofs.join('; ')}.`, ...absent.map(({ name, reason }) => `Not measured: ${name}: ${reason}`),
  ].join('\n');
}

export function depthTable({ model, threads, depths, rates }: Depth): string {
  const first = median(present(rates[0]!));
  return [`Decoding behind so many tokens: ${model}, ${threadsOf({ threads })}`, '', table(['depth', 'tok/s', 'of the first'],
    depths.map((depth, i) => [String(depth), rate(rates[i]!), percent(median(present(rates[i]!)) / first)]))].join('\n');
}

export function kernelTable(rows: readonly KernelRow[]): string {
  return table(['kernel', 'group', 'rows x columns', 'GOPS', 'GB/s', 'of the roof', 'GOPS, 32 vectors'],
    rows.map(row => [row.kernel, String(row.groupSize || ''), `${row.rows} x ${row.cols}`, f(row.gops), f(row.gbps), percent(row.share), row.gopsMany === null ? '' : f(row.gopsMany)]));
}

/** Whose figures say that something else was running. */
export function noise({ endToEnd, depth }: Pick<Report, 'endToEnd' | 'depth'>): string | null {
  const loud = [
    ...endToEnd.flatMap(({ rows }) => rows.filter(({ decode }) => spread(present(decode)) > NOISY).map(({ name, threads }) => `${name}, ${threadsOf({ threads })}`)),
    ...endToEnd.flatMap(({ roof }) => roof.filter(({ rates }) => spread(rates.map(({ sequential }) => sequential)) > NOISY).map(({ threads }) => `reading memory, ${threadsOf({ threads })}`)),
    ...depth.filter(({ rates }) => rates.some(one => spread(present(one)) > NOISY)).map(({ model }) => `depth, ${model}`),
  ];
  return loud.length > 0 ? `The machine is noisy, spread above ${100 * NOISY} % (${loud.join('; ')}): read the ratios, not the rates.` : null;
}

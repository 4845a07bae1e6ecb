/**
 * `npm run bench`: decode and prefill of a model of real shape with random weights, beside the read rate of WebAssembly
 * in the same run. Rounds are interleaved, figures are medians over the rounds.
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { Bench } from 'tinybench';
import { createEngine } from '../src/engine/engine.js';
import type { Engine, ForwardRow } from '../src/engine/types.js';
import { Roof, isRoofWorker, serveRoof, type ReadRate } from './roof.js';
import { formatOf, shapes, streamed, synthetic } from './shapes.js';

const help = `npm run bench [-- options]

  --shape NAME    ${Object.keys(shapes).join(', ')}            (1.1b)
  --bits N        1, 2, 3, 4, 8, ternary          (2)
  --group N       32, 64, 128                     (128)
  --threads LIST  thread counts                   (1,2)
  --rounds N      repetitions, interleaved        (7)
  --variant V     simd, relaxed, auto             (auto)
  --json          one JSON object on stdout

Example: npm run bench -- --shape 134m --bits ternary --threads 1,2`;

const median = (values: number[]) => [...values].sort((a, b) => a - b)[values.length >> 1]!;

/** Seconds of one call, median of a tinybench run that lasts about `ms`. */
async function time(name: string, ms: number, call: () => Promise<void>): Promise<number> {
  const bench = new Bench({ time: ms, iterations: 3, warmup: false });
  bench.add(name, call);
  await bench.run();
  const result = bench.tasks[0]!.result;
  if (result.state !== 'completed') throw 'error' in result ? result.error : new Error(`${name}: ${result.state}`);
  return result.latency.p50 / 1000;
}

interface Figures { threads: number; decode: number[]; prefill: number[]; roof: ReadRate[] }

async function main(): Promise<void> {
  const { values } = parseArgs({ options: {
    shape: { type: 'string', default: '1.1b' }, bits: { type: 'string', default: '2' }, group: { type: 'string', default: '128' },
    threads: { type: 'string', default: '1,2' }, rounds: { type: 'string', default: '7' }, variant: { type: 'string', default: 'auto' },
    json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false },
  } });
  const shape = shapes[values.shape];
  if (values.help || !shape) return console.log(help);
  const counts = values.threads.split(',').map(Number), most = Math.max(...counts), rounds = Number(values.rounds);
  const { header, source } = synthetic(shape, values.bits, Number(values.group));
  const { weights, bytes } = streamed(header);
  const format = formatOf(values.bits, Number(values.group));

  console.error(`${cpus()[0]?.model.trim()}, ${cpus().length} cores, Node ${process.version}`);
  const loaded = performance.now();
  const variant = values.variant as 'simd' | 'relaxed' | 'auto';
  const engines = new Map<number, Engine>();
  for (const threads of counts) {
    engines.set(threads, await createEngine(source, header, { threads, variant, context: 512, maxSessions: 1, reference: false }));
  }
  console.error(`${values.shape} ${format.layout} ${values.bits} bit g${format.groupSize}: ${(weights / 1e6).toFixed(0)}M weights, ${(bytes / 1e6).toFixed(0)} MB a token, ready in ${((performance.now() - loaded) / 1000).toFixed(1)} s`);
  const roof = await Roof.start(most);

  const passes = new Map([...engines].map(([threads, engine]) => {
    const session = engine.openSession();
    const rows = (from: number, n: number): ForwardRow[] => Array.from({ length: n }, (_, i) => ({ session, position: from + i, token: 7 * i % 100, wantLogits: i === n - 1 }));
    return [threads, { decode: () => engine.forward(rows(8, 1)), prefill: () => engine.forward(rows(0, engine.maxRows)) }];
  }));
  for (const { decode, prefill } of passes.values()) for (let i = 0; i < 4; i++) await decode(), i < 2 && await prefill(); // optimising compiler

  const figures = counts.map((threads): Figures => ({ threads, decode: [], prefill: [], roof: [] }));
  for (let round = 0; round < rounds; round++) {
    for (const f of figures) {
      const { decode, prefill } = passes.get(f.threads)!;
      f.roof.push(await roof.measure(f.threads));
      f.decode.push(await time('decode', 500, decode));
      f.prefill.push(await time('prefill', 300, prefill));
      process.stderr.write(`\rround ${round + 1} of ${rounds}, ${f.threads} threads   `);
    }
  }
  process.stderr.write('\n');

  const maxRows = engines.get(counts[0]!)!.maxRows;
  const table = figures.map(f => {
    const decode = median(f.decode), gbps = bytes / decode / 1e9;
    const spread = (v: number[]) => (Math.max(...v) - Math.min(...v)) / median(v) / 2;
    const roof = (kind: keyof ReadRate) => f.roof.map(rate => rate[kind]);
    // Shares are of one round at a time: the machine's speed drifts, the ratio does not.
    const share = (kind: keyof ReadRate) => median(f.decode.map((t, i) => bytes / t / 1e9 / f.roof[i]![kind]));
    return {
      threads: f.threads, decodeTokensPerSecond: 1 / decode, decodeSpread: spread(f.decode), gigabytesPerSecond: gbps,
      readRate: median(roof('sequential')), readRateSpread: spread(roof('sequential')), shareOfReadRate: share('sequential'),
      streamsReadRate: median(roof('streams')), shareOfStreamsReadRate: share('streams'),
      decodeGops: 2 * weights / decode / 1e9, prefillTokensPerSecond: maxRows / median(f.prefill), prefillGops: 2 * weights * maxRows / median(f.prefill) / 1e9,
    };
  });
  const info = engines.get(counts.at(-1)!)!.info;
  for (const engine of engines.values()) await engine.dispose();
  await roof.stop();
  const noisy = table.some(row => row.decodeSpread > 0.25 || row.readRateSpread > 0.25);
  if (noisy) console.error('The machine is noisy (spread above 25 %): read ratios, not absolutes.');
  if (values.json) {
    console.log(JSON.stringify({ machine: { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version }, shape: values.shape, format, weights, bytesPerToken: bytes, wasm: info.wasm, kernels: info.kernels, rounds, noisy, results: table }));
    return;
  }
  const f = (n: number, digits = 1) => n.toFixed(digits);
  console.log(`\n${info.wasm.replace('-shared', '')} SIMD, ${Object.keys(info.kernels).join(', ')}; medians of ${rounds} rounds, ± half the spread`);
  console.log('| threads | decode tok/s | GB/s | wasm reads GB/s | share | wasm reads in 8 streams | share | GOPS | prefill tok/s | GOPS |\n|---|---|---|---|---|---|---|---|---|---|');
  for (const r of table) {
    console.log(`| ${r.threads} | ${f(r.decodeTokensPerSecond)} ± ${f(100 * r.decodeSpread, 0)} % | ${f(r.gigabytesPerSecond)} | ${f(r.readRate)} ± ${f(100 * r.readRateSpread, 0)} % | ${f(100 * r.shareOfReadRate, 0)} % | ${f(r.streamsReadRate)} | ${f(100 * r.shareOfStreamsReadRate, 0)} % | ${f(r.decodeGops)} | ${f(r.prefillTokensPerSecond)} | ${f(r.prefillGops)} |`);
  }
  const [one, two] = [table.find(r => r.threads === 1), table.find(r => r.threads === 2)];
  if (one && two) {
    const gain = median(figures.find(x => x.threads === 2)!.decode.map((t, i) => figures.find(x => x.threads === 1)!.decode[i]! / t));
    const roofGain = median(figures.find(x => x.threads === 2)!.roof.map((rate, i) => rate.sequential / figures.find(x => x.threads === 1)!.roof[i]!.sequential));
    console.log(`\n2 threads: decode x ${f(gain, 2)}, memory x ${f(roofGain, 2)} (${f(100 * gain / roofGain, 0)} %)`);
  }
}

if (isRoofWorker) await serveRoof();
else await main();

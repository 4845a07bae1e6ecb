/** Statistics, taking turns, tables and the page, with contestants whose speed is known. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Contestant } from '../../bench/contestant.js';
import { race } from '../../bench/end-to-end.js';
import { pageOf } from '../../bench/page.js';
import { depthTable, endToEndTable, kernelTable, noise, type Report } from '../../bench/report.js';
import type { Roof } from '../../bench/roof.js';
import { median, ratio, spread } from '../../bench/stats.js';

const test = suite('benchmark reports');

const roof = { measure: async () => ({ sequential: 10, streams: 20, native: 40 }) } as unknown as Roof;
const plan = { prompt: 4, generated: 2, rounds: 3, minutes: 1, signal: new AbortController().signal, onRound: () => {} };
const order: string[] = [];
const contestant = (name: string, rates: number[]): Contestant => {
  let turn = 0;
  return { name, version: '1', model: 'Q2_K', threads: 2, bytes: 1e9, close: async () => {}, measure: async prompt => {
    if (prompt !== plan.prompt) return { prefill: 1, decode: 1 }; // warming up
    order.push(name);
    const decode = rates[turn++];
    if (decode === undefined) throw new Error('no <more>');
    return { prefill: 10 * decode, decode };
  } };
};

test('medians, spreads, ratios of common rounds', () => {
  assert.is(median([3, 1, 2]), 2);
  assert.is(median([4, 1, 2, 3]), 2.5);
  assert.is(spread([8, 10, 12]), 0.2);
  assert.is(ratio([10, null, 30, 8], [5, 1, 10]), 2.5);
  assert.is(ratio([null], [1]), null);
});

async function example(): Promise<Report> {
  const result = await race([contestant('Lutra', [10, 20, 30]), contestant('llama.cpp native', [5, 5, 5]), contestant('wllama 2.3.1', [2])], roof, plan);
  return {
    machine: { cpu: 'a <b> & "c"', cores: 2, gigabytes: 4, os: 'Linux', node: '24', lutra: '1', wasm: 'simd', date: '2026-01-01' },
    endToEnd: [{ model: 'tiny', weights: 1e6, prompt: 4, generated: 2, ...result }],
    depth: [{ model: 'tiny', threads: 2, depths: [0, 512], rates: [[10, 10], [8, 8]] }],
    kernels: [{ kernel: 'planes2-i16-lut7', groupSize: 128, rows: 16, cols: 128, gops: 50, gbps: 5, share: 0.5, gopsMany: 60 }],
    roof: { sequential: 10, streams: 9, native: 12 },
  };
}

test('contestants take turns; one that fails is named, the others go on', async () => {
  order.length = 0;
  const { endToEnd: [{ rows, absent }] } = await example() as Report & { endToEnd: [Report['endToEnd'][0]] };
  assert.equal(order.slice(0, 4), ['Lutra', 'llama.cpp native', 'wllama 2.3.1', 'Lutra']);
  assert.equal(rows.map(({ decodeRatio }) => decodeRatio), [null, 4, 5]);
  assert.equal(rows[2]!.decode, [2, null, null]);
  assert.equal(rows.map(({ share }) => share), [1, 0.125, 0.1], 'native code is held against native reads');
  assert.equal(absent, [{ name: 'wllama 2.3.1, 2 threads', reason: 'no <more>' }]);
});

test('one that does not answer is given up and closed', async () => {
  let closed = 0;
  const silent: Contestant = { ...contestant('wllama 2.3.1', []), measure: () => new Promise(() => {}), close: async () => { closed++; } };
  const { rows, absent } = await race([contestant('Lutra', [1, 1, 1]), silent], roof, { ...plan, minutes: 0.002 });
  assert.equal(rows.map(({ name }) => name), ['Lutra']);
  assert.match(absent[0]!.reason, /no answer/);
  assert.is(closed, 1);
});

test('nothing starts after an abort', async () => {
  assert.equal((await race([contestant('Lutra', [1])], roof, { ...plan, signal: AbortSignal.abort() })).rows, []);
});

test('tables and the warning say what was measured', async () => {
  const report = await example();
  const text = endToEndTable(report.endToEnd[0]!);
  assert.match(text, /\| llama\.cpp native 1 \| Q2_K \| 1000 \| 2 \| 3 \| 50\.0 ± 0 % \| 5\.00 ± 0 % \| 5\.0 \| 13 % \| 4\.00 x \| 4\.00 x \|/);
  assert.match(text, /Not measured: wllama 2\.3\.1, 2 threads: no <more>/);
  assert.match(depthTable(report.depth[0]!), /\| 512 \| 8\.00 ± 0 % \| 80 % \|/);
  assert.match(kernelTable(report.kernels), /\| planes2-i16-lut7 \| 128 \| 16 x 128 \| 50\.0 \| 5\.0 \| 50 % \| 60\.0 \|/);
  assert.match(noise(report)!, /Lutra, 2 threads/);
  assert.is(noise({ ...report, endToEnd: [] }), null);
});

test('the page holds library and data, asks nothing of the network, and no text can end its scripts', async () => {
  const report = await example();
  const page = pageOf(report);
  assert.is(page.match(/<script/g)!.length, page.match(/<\/script>/g)!.length);
  assert.not.match(page, /<script[^>]*src=|<link|@import/);
  assert.match(page, /Chart\.js v4/);
  const { charts, report: data } = JSON.parse(/<script type="application\/json" id="data">(.*?)<\/script>/s.exec(page)![1]!);
  assert.equal(data, report);
  assert.equal(charts.map((chart: { type: string }) => chart.type), ['bar', 'bar', 'line', 'scatter']);
  assert.equal(charts[0].data.datasets[0].data, [20, 5, 2]);
  assert.ok(page.includes('no &#60;more&#62;') && page.includes('a &#60;b&#62; &#38;'));
});

test.run();

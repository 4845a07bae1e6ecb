/** One HTML page that shows reports as plots; it opens without a network. */
import { chartPage, escaped, type Figure } from '../src/cli/page.js';
import { describeMachine, threadsOf, type Report } from './report.js';
import { median, present } from './stats.js';

const palette = ['#1f6feb', '#d9480f', '#2b8a3e', '#862e9c', '#e0a800', '#0b7285', '#c2255c', '#5c5f66'];
const colour = (i: number) => palette[i % palette.length]!;

const axis = (text: string, more: object = {}) => ({ title: { display: true, text }, ...more });

/** Bars of tokens a second, a group for each contestant and thread count. */
function bars(report: Report): Figure[] {
  return report.endToEnd.flatMap(({ model, rows, prompt, generated }) => (['decode', 'prefill'] as const).map((kind): Figure => {
    const labels = rows.map(row => `${row.name}, ${row.model}, ${threadsOf(row)}`);
    const names = [...new Set(rows.map(({ name }) => name))];
    return {
      title: `${model}: ${kind === 'decode' ? `decode, ${generated} tokens` : `prefill, ${prompt} tokens`}`,
      note: rows.filter(row => row.decodeRatio !== null).map(row => `${row.name}, ${threadsOf(row)}: Lutra ${(kind === 'decode' ? row.decodeRatio : row.prefillRatio)?.toFixed(2)} x`).join('; '),
      chart: {
        type: 'bar',
        data: { labels, datasets: [{ data: rows.map(row => median(present(row[kind]))), backgroundColor: rows.map(({ name }) => colour(names.indexOf(name))) }] },
        options: { indexAxis: 'y', animation: false, plugins: { legend: { display: false } }, scales: { x: axis('tokens a second', { beginAtZero: true }) } },
      },
    };
  }));
}

function depths(report: Report): Figure[] {
  if (report.depth.length === 0) return [];
  return [{
    title: 'Decode over depth', note: '',
    chart: {
      type: 'line',
      data: { datasets: report.depth.map(({ model, threads, depths, rates }, i) => ({ label: `${model}, ${threadsOf({ threads })}`, borderColor: colour(i), backgroundColor: colour(i),
        data: depths.map((x, j) => ({ x, y: median(present(rates[j]!)) })) })) },
      options: { animation: false, scales: { x: axis('tokens in the context', { type: 'linear' }), y: axis('tokens a second', { beginAtZero: true }) } },
    },
  }];
}

/** Operations a second over operations a byte; the slope is the read rate. */
function roofline(report: Report): Figure[] {
  if (!report.roof || report.kernels.length === 0) return [];
  const read = Math.max(report.roof.sequential, report.roof.streams);
  const points = report.kernels.map(row => ({ x: row.gops / row.gbps, y: row.gops, label: `${row.kernel}, ${row.rows} x ${row.cols}` }));
  const ends = [Math.min(...points.map(({ x }) => x)) / 1.5, Math.max(...points.map(({ x }) => x)) * 1.5];
  const families = [...new Set(points.map(({ label }) => label.match(/^[a-z]+(-web)?/)![0]))];
  return [{
    title: 'Roofline: one vector, one thread', note: `The line is what WebAssembly reads: ${read.toFixed(1)} GB/s`,
    chart: {
      type: 'scatter',
      data: { datasets: [
        ...families.map((family, i) => ({ label: family, backgroundColor: colour(i), pointRadius: 4, data: points.filter(({ label }) => label.startsWith(family)) })),
        { label: 'read rate', type: 'line', borderColor: '#888', pointRadius: 0, data: ends.map(x => ({ x, y: x * read, label: 'read rate' })) },
      ] },
      options: { animation: false, scales: { x: axis('operations a byte', { type: 'logarithmic' }), y: axis('giga-operations a second', { type: 'logarithmic' }) } },
    },
  }];
}

export function pageOf(report: Report): string {
  const absent = report.endToEnd.flatMap(({ model, absent }) => absent.map(({ name, reason }) => `<p>Not measured on ${escaped(model)}: ${escaped(name)}: ${escaped(reason)}</p>`));
  return chartPage('Lutra: what was measured', [...bars(report), ...depths(report), ...roofline(report)], {
    before: `<p>${escaped(describeMachine(report.machine))}</p>`, after: absent.join('\n'), data: { report },
  });
}

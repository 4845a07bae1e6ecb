/** Models as points: perplexity over bits per weight. */
import { writeFile } from 'node:fs/promises';
import { FileAccessError } from '../errors.js';
import { chartPage, escaped } from './page.js';

export interface Plot {
  title: string;
  x: string;
  y: string;
  points: readonly { name: string; x: number; y: number }[];
  /** A line across, such as what a reference reaches. */
  line?: { name: string; y: number };
}

export async function writePlot(path: string, plot: Plot): Promise<void> {
  await writeFile(path, pageOf(plot)).catch(cause => { throw new FileAccessError(path, (cause as Error).message, 'Check that you may write there.', { cause }); });
}

/** The page; names are data, never markup. */
export function pageOf({ title, x, y, line, ...given }: Plot): string {
  const points = [...given.points].sort((a, b) => a.x - b.x), xs = points.map(point => point.x);
  const low = Math.min(...xs), high = Math.max(...xs), margin = Math.max(0.2, 0.15 * (high - low)), range = [low - margin, high + 2 * margin] as const;
  const axis = (text: string, more: object) => ({ title: { display: true, text }, ...more });
  const chart = {
    type: 'scatter', named: true as const,
    data: { datasets: [
      { label: y, showLine: true, borderColor: '#1f6feb', backgroundColor: '#1f6feb', borderWidth: 1, pointRadius: 4, data: points.map(point => ({ x: point.x, y: point.y, label: point.name })) },
      ...line ? [{ label: line.name, showLine: true, borderColor: '#d9480f', borderDash: [6, 4], pointRadius: 0, data: range.map(x => ({ x, y: line.y })) }] : [],
    ] },
    options: { animation: false, scales: { x: axis(x, { type: 'linear', min: range[0], max: range[1] }), y: axis(y, { type: 'logarithmic' }) } },
  };
  const rows = points.map(point => `<tr><td>${escaped(point.name)}</td><td>${point.x.toFixed(3)}</td><td>${point.y.toFixed(3)}</td></tr>`);
  return chartPage(title, [{ title: `${y} over ${x}`, chart }], { after: `<table><tr><th>model</th><th>${escaped(x)}</th><th>${escaped(y)}</th></tr>\n${rows.join('\n')}\n</table>` });
}

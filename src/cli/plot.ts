/** Points on a page: one HTML file that opens offline. */
import { writeFile } from 'node:fs/promises';
import script from 'uplot/dist/uPlot.iife.min.js' with { type: 'text' };
import style from 'uplot/dist/uPlot.min.css' with { type: 'text' };
import { FileAccessError } from '../errors.js';

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
export function pageOf(plot: Plot): string {
  const points = [...plot.points].sort((a, b) => a.x - b.x);
  const data = JSON.stringify({ ...plot, points }).replaceAll('<', '\\u003c');
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>${escaped(plot.title)}</title>
<style>${style}
body { font: 15px system-ui, sans-serif; margin: 2em auto; max-width: 860px; }
table { border-collapse: collapse; margin-top: 1em; }
td, th { padding: .2em .8em; text-align: right; } td:first-child, th:first-child { text-align: left; }
</style>
<h1>${escaped(plot.title)}</h1>
<div id="plot"></div>
<table><tr><th>model</th><th>${escaped(plot.x)}</th><th>${escaped(plot.y)}</th></tr>
${points.map(({ name, x, y }) => `<tr><td>${escaped(name)}</td><td>${x.toFixed(3)}</td><td>${y.toFixed(3)}</td></tr>`).join('\n')}
</table>
<script>${script.replaceAll('</script', '<\\/script')}</script>
<script>
const { x, y, points, line } = ${data};
const label = { hooks: { draw: [u => {
  u.ctx.save();
  u.ctx.fillStyle = '#444';
  u.ctx.font = 13 * devicePixelRatio + 'px system-ui';
  for (const point of points) u.ctx.fillText(point.name, u.valToPos(point.x, 'x', true) + 8 * devicePixelRatio, u.valToPos(point.y, 'y', true) - 6 * devicePixelRatio);
  u.ctx.restore();
}] } };
const xs = points.map(point => point.x), pad = Math.max(.2, (Math.max(...xs) - Math.min(...xs)) * .15);
new uPlot({
  width: 840, height: 480, plugins: [label], scales: { x: { time: false, range: (u, low, high) => [low - pad, high + 2 * pad] }, y: { distr: 3 } },
  axes: [{ label: x }, { label: y }],
  series: [{ label: x }, { label: y, stroke: '#06c', width: 1, points: { size: 8, fill: '#06c' } }, ...line ? [{ label: line.name, stroke: '#c60', dash: [6, 4], points: { show: false } }] : []],
}, [xs, points.map(point => point.y), ...line ? [points.map(() => line.y)] : []], document.getElementById('plot'));
</script>
</html>
`;
}

const escaped = (text: string) => text.replace(/[&<>"]/g, char => `&#${char.charCodeAt(0)};`);

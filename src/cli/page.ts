/** Charts on a page: one HTML file that opens without a network. */
// By its place: the package lists only its modules.
import library from '../../node_modules/chart.js/dist/chart.umd.min.js' with { type: 'text' };

/** `chart`: a configuration of Chart.js, data alone. Points may have a `label`; where `chart.named` is set, it is written beside them. */
export interface Figure { title: string; note?: string; chart: { type: string; data: object; options: object; named?: true } }

export const escaped = (text: string): string => text.replace(/[&<>"]/g, char => `&#${char.charCodeAt(0)};`);

/**
 * @param before HTML above the figures
 * @param after HTML below them
 * @param data more that the page holds, for who reads it by program
 */
export function chartPage(title: string, figures: readonly Figure[], { before = '', after = '', data = {} }: { before?: string; after?: string; data?: object } = {}): string {
  // "<" could end the script.
  const json = JSON.stringify({ charts: figures.map(({ chart }) => chart), ...data }).replaceAll('<', '\\u003c');
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escaped(title)}</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
  figure { margin: 2.5rem 0 } figcaption { font-weight: 600 } .note { color: #666; font-weight: 400 }
  table { border-collapse: collapse } td, th { padding: .2em .8em; text-align: right } td:first-child, th:first-child { text-align: left }
</style>
<h1>${escaped(title)}</h1>
${before}
${figures.map(({ title, note = '' }, i) => `<figure><figcaption>${escaped(title)}<div class="note">${escaped(note)}</div></figcaption><canvas id="plot${i}"></canvas></figure>`).join('\n')}
${after}
<script type="application/json" id="data">${json}</script>
<script>${library.replace(/\/\/# sourceMappingURL=.*/, '').replaceAll('</script', '<\\/script')}</script>
<script>
  const names = { id: 'names', afterDatasetsDraw(chart) {
    chart.ctx.fillStyle = '#444';
    chart.data.datasets.forEach((set, i) => chart.getDatasetMeta(i).data.forEach(({ x, y }, j) => set.data[j].label && chart.ctx.fillText(set.data[j].label, x + 8, y - 8)));
  } };
  JSON.parse(document.getElementById('data').textContent).charts.forEach((chart, i) => {
    chart.options.plugins = { ...chart.options.plugins, tooltip: { callbacks: { label: ({ raw, formattedValue }) => (raw.label ? raw.label + ': ' : '') + formattedValue } } };
    new Chart('plot' + i, { ...chart, plugins: chart.named ? [names] : [] });
  });
</script>
</html>
`;
}

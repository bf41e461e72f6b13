/** Charts as inline SVG. Colours come from the page's style; patterns tell the parts apart without them. */
import type { CheckOutput, Tally } from './check.js';
import { escapeHtml, grouped } from './html-text.js';

const ROW = 30;
const LABEL = 168;
const WIDTH = 560;
const NUMBERS = 125;
const ROWS = 10;

const DEFS = `<defs><pattern id="stripes" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect class="proxy" width="7" height="7"/><rect class="stripe" width="2" height="7"/></pattern>
<pattern id="dots" width="6" height="6" patternUnits="userSpaceOnUse"><rect class="invalid" width="6" height="6"/>
<circle class="stripe" cx="3" cy="3" r="1.3"/></pattern></defs>`;

const FILL = { kernel: 'class="kernel"', proxy: 'fill="url(#stripes)"', invalid: 'fill="url(#dots)"' } as const;

function shorten(text: string, length: number): string {
  return text.length > length ? `…${text.slice(1 - length)}` : text;
}

function parts(tally: Tally, x: number, y: number, width: number, height: number): string {
  let at = x;
  return (['kernel', 'proxy', 'invalid'] as const)
    .filter((part) => tally[part] > 0)
    .map((part) => {
      const w = (width * tally[part]) / tally.rules;
      const title = `${grouped(tally[part])} ${part}`;
      const rect = `<rect ${FILL[part]} x="${at.toFixed(1)}" y="${y}" width="${w.toFixed(1)}" height="${height}"><title>${title}</title></rect>`;
      at += w;
      return rect;
    })
    .join('');
}

/** One bar for all rules. */
export function shareBar(output: CheckOutput): string {
  const { rules, kernel, proxy, invalid } = output;
  const label = `${kernel} of ${rules} rules in the kernel, ${proxy} through the proxy, ${invalid} invalid`;
  return `<svg class="share" viewBox="0 0 1000 26" preserveAspectRatio="none" role="img" aria-label="${label}">${DEFS}
${rules === 0 ? '' : parts({ rules, kernel, proxy, invalid }, 0, 0, 1000, 26)}</svg>`;
}

/** Bars by kind: how long says how many rules, the parts where they are enforced. */
export function kindsChart(output: CheckOutput): string {
  const kinds = output.totals.byKind.slice(0, ROWS);
  const most = Math.max(1, ...kinds.map((k) => k.rules));
  const bars = kinds.map((k, i) => {
    const y = i * ROW;
    const width = Math.max(3, ((WIDTH - LABEL - NUMBERS) * k.rules) / most);
    const share = `${Math.round((100 * k.kernel) / k.rules)}%`;
    return `<text x="${LABEL - 10}" y="${y + 19}" text-anchor="end">${escapeHtml(shorten(k.kind, 24))}</text>
${parts(k, LABEL, y + 5, width, ROW - 10)}
<text class="number" x="${(LABEL + width + 8).toFixed(1)}" y="${y + 19}">${grouped(k.kernel)} of ${grouped(k.rules)} (${share})</text>`;
  });
  const height = kinds.length * ROW;
  return `<svg class="chart" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="Rules by kind">${bars.join('')}</svg>`;
}

/** Bars by reason. */
export function reasonsChart(output: CheckOutput): string {
  const reasons = output.totals.byReason.slice(0, ROWS);
  const most = Math.max(1, ...reasons.map((r) => r.rules));
  const bars = reasons.map((r, i) => {
    const y = i * ROW;
    const width = Math.max(3, ((WIDTH - LABEL - NUMBERS) * r.rules) / most);
    return `<a href="#reason-${r.code}"><text x="${LABEL - 10}" y="${y + 19}" text-anchor="end">${shorten(r.code, 24)}</text>
<rect ${FILL.proxy} x="${LABEL}" y="${y + 5}" width="${width.toFixed(1)}" height="${ROW - 10}"><title>${escapeHtml(r.title)}</title></rect>
<text class="number" x="${(LABEL + width + 8).toFixed(1)}" y="${y + 19}">${grouped(r.rules)}</text></a>`;
  });
  const height = reasons.length * ROW;
  return `<svg class="chart" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="Reasons for the proxy">${bars.join('')}</svg>`;
}

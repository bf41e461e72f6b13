/** What the demo shows: a table for the terminal and a page for the browser. */
import type { DemoReport, KindReport } from './run.js';

function share(report: DemoReport): number {
  const { kernel, proxy, agent } = report.decided;
  return kernel + proxy + agent ? (100 * kernel) / (kernel + proxy + agent) : 0;
}

function note(k: KindReport): string {
  const wrong = k.envoy.failures + k.sidestep.failures;
  if (wrong) return `${wrong} wrong answers: ${k.sidestep.first_failure ?? k.envoy.first_failure ?? ''}`;
  const seen = Object.entries(k.sidestep.seen).sort();
  const all = seen.reduce((n, [, count]) => n + count, 0);
  return seen.map(([what, count]) => `${what} ${Math.round((100 * count) / all)}%`).join(', ');
}

/** The table. */
export function demoText(report: DemoReport): string {
  const head = ['policy', 'kernel', 'proxy', 'agent', 'p50 us', 'Envoy alone', 'times faster', ''];
  const rows = report.kinds.map((k) => [
    k.kind,
    ...[k.decided.kernel, k.decided.proxy, k.decided.agent, k.sidestep.p50_us, k.envoy.p50_us].map(String),
    (k.envoy.p50_us / k.sidestep.p50_us).toFixed(1),
    note(k),
  ]);
  const widths = head.map((h, i) => Math.max(h.length, ...rows.map((r) => (i === 7 ? 0 : r[i]!.length))));
  const line = (cells: string[]): string =>
    cells
      .map((c, i) => (i === 0 || i === 7 ? c.padEnd(widths[i]!) : c.padStart(widths[i]!)))
      .join('  ')
      .trimEnd();
  return [
    line(head),
    line(widths.map((w) => '-'.repeat(w))),
    ...rows.map(line),
    '',
    `${share(report).toFixed(1)}% of the requests were decided in the kernel (rules: ${report.rules.kernel} kernel, ` +
      `${report.rules.proxy} proxy); ${report.failures} wrong answers; ${report.seconds.toFixed(0)} s`,
  ].join('\n');
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}

function bars(k: KindReport, longest: number): string {
  const bar = (micros: number, cls: string): string =>
    `<div class="bar ${cls}" style="width:${Math.max(0.5, (100 * micros) / longest).toFixed(1)}%"></div>` +
    `<span>${micros} µs</span>`;
  return `<div class="pair">${bar(k.sidestep.p50_us, 'ours')}</div><div class="pair">${bar(k.envoy.p50_us, 'theirs')}</div>`;
}

function split(k: KindReport): string {
  const all = k.decided.kernel + k.decided.proxy + k.decided.agent || 1;
  const part = (n: number, cls: string): string =>
    n ? `<div class="${cls}" style="width:${((100 * n) / all).toFixed(2)}%" title="${cls}: ${n}"></div>` : '';
  return `<div class="split">${part(k.decided.kernel, 'kernel')}${part(k.decided.proxy, 'proxy')}${part(k.decided.agent, 'agent')}</div>`;
}

/** The page: one file, nothing loaded from elsewhere. */
export function demoPage(report: DemoReport): string {
  const longest = Math.max(...report.kinds.flatMap((k) => [k.envoy.p50_us, k.sidestep.p50_us])) * 1.25;
  const rows = report.kinds.map(
    (k) => `<tr><th>${escaped(k.kind)}<small>${escaped(note(k))}</small></th>
<td>${split(k)}<small>${k.decided.kernel} kernel · ${k.decided.proxy} proxy · ${k.decided.agent} agent</small></td>
<td>${bars(k, longest)}</td></tr>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sidestep demo</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; --kernel: #2a9d8f; --proxy: #e9a23b; --agent: #b5651d; --theirs: #8d99ae; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .5rem .75rem .5rem 0; vertical-align: top; border-top: 1px solid #8884; font-weight: normal; }
thead th { border: 0; font-weight: 600; } tbody th { width: 24%; } td:nth-child(2) { width: 30%; }
small { display: block; opacity: .7; } .big { font-size: 2.6rem; font-weight: 600; margin: 0; }
.split { display: flex; height: 1rem; background: #8882; border-radius: 3px; overflow: hidden; }
.kernel, .ours { background: var(--kernel); } .proxy { background: var(--proxy); } .agent { background: var(--agent); }
.theirs { background: var(--theirs); }
.pair { display: flex; align-items: center; gap: .5rem; margin-bottom: 3px; } .bar { height: .7rem; border-radius: 2px; }
.pair span { font-size: .8rem; white-space: nowrap; } .key i { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em; }
</style></head><body>
<h1>Sidestep: one shop, six processes, real requests</h1>
<p class="big">${share(report).toFixed(1)}%</p>
<p>of the requests were decided inside the kernel. ${report.rules.kernel} rules are the kernel's, ${report.rules.proxy} the proxy's;
${report.failures === 0 ? 'every answer was right.' : `${report.failures} answers were wrong.`}</p>
<p class="key">Decided by <i class="kernel"></i>kernel <i class="proxy"></i>proxy <i class="agent"></i>agent; median time of a request
through <i class="ours"></i>Sidestep <i class="theirs"></i>Envoy alone</p>
<table><thead><tr><th>policy</th><th>decided by</th><th>median time</th></tr></thead><tbody>
${rows.join('\n')}
</tbody></table>
</body></html>
`;
}

/** The report of `check` as one HTML page that needs nothing else. */
import { createHash } from 'node:crypto';
import type { ReportResult } from '../plan/report.js';
import type { CheckOutput, Sources, Tally } from './check.js';
import { waiting } from './clients.js';
import { GUIDES, reasonText } from './guides.js';
import { kindsChart, reasonsChart, shareBar } from './html-chart.js';
import { SCRIPT } from './html-script.js';
import { lineId, sourcesHtml } from './html-sources.js';
import { STYLE } from './html-style.js';
import { commonFolder, escapeHtml, grouped, inline } from './html-text.js';

const FINDINGS = 200;

function percent(t: Tally): string {
  return t.rules === 0 ? '–' : `${((100 * t.kernel) / t.rules).toFixed(1)}%`;
}

interface Files {
  readonly index: ReadonlyMap<string, number>;
  /** what all their names begin with; left out where space is short */
  readonly folder: string;
}

/** Numbers for the files that have rules, findings or reasons; those with something to see come first. */
function filesOf(output: CheckOutput): Files {
  const { byFile } = output.totals;
  const bad = byFile.filter((f) => f.kernel < f.rules).map((f) => f.file);
  const others = [
    ...[...output.errors, ...output.warnings].map((f) => f.file),
    ...output.results.flatMap((r) => r.reasons.map((reason) => reason.file)),
    ...byFile.map((f) => f.file),
  ];
  const files = [...new Set([...bad, ...others])].filter((file) => file !== '');
  return { index: new Map(files.map((file, i) => [file, i])), folder: commonFolder(files) };
}

function place(file: string, line: number, { index, folder }: Files, words?: string): string {
  const number = index.get(file);
  const text = words ?? `${file.startsWith(folder) ? file.slice(folder.length) : file}:${line}`;
  return number === undefined ? escapeHtml(text) : `<a href="#${lineId(number, line)}">${escapeHtml(text)}</a>`;
}

function header(output: CheckOutput): string {
  const share = output.totals.share.toFixed(1);
  const legend = [
    ['kernel', output.kernel, 'in the kernel'],
    ['proxy', output.proxy, 'through the proxy'],
    ['invalid', output.invalid, 'in files with errors'],
  ] as const;
  const items = legend
    .filter(([verdict, n]) => verdict !== 'invalid' || n > 0)
    .map(([verdict, n, text]) => `<li><span class="swatch ${verdict}"></span><b>${grouped(n)}</b> ${text}</li>`);
  const others = [
    [output.rules, 'rules'],
    [output.documents, 'documents'],
    [output.errors.length, 'errors'],
    [output.warnings.length, 'warnings'],
  ] as const;
  for (const [rules, what] of waiting(output))
    items.push(`<li><b>${grouped(rules)}</b> of the proxy’s would be in the kernel but for ${what}</li>`);
  for (const [n, text] of others)
    if (n > 0) items.push(`<li><b>${grouped(n)}</b> ${n === 1 ? text.slice(0, -1) : text}</li>`);
  return `<header><div class="in"><div class="brand">Sidestep · policy check</div>
<h1>${output.rules === 0 ? 'No rules' : `${share}% of the rules are enforced in the kernel`}</h1>
${shareBar(output)}<ul class="legend">${items.join('')}</ul></div></header>`;
}

function tallyTable(id: 'kind' | 'file', title: string, rows: readonly (Tally & { readonly group: string })[]): string {
  const folder = id === 'file' ? commonFolder(rows.map((t) => t.group)) : '';
  const body = rows.map(
    (t) =>
      `<tr><td><button type="button" data-set="${id}" data-value="${escapeHtml(t.group)}">${escapeHtml(t.group.slice(folder.length))}</button></td><td class="num">${grouped(t.rules)}</td><td class="num">${grouped(t.kernel)}</td><td class="num">${grouped(t.proxy)}</td><td class="num">${percent(t)}</td></tr>`,
  );
  const where = folder === '' ? '' : ` <span class="quiet code">${escapeHtml(folder)}</span>`;
  return `<div class="card scroll"><h3>${title}${where}</h3><table><thead><tr><th>${id}</th><th class="num">rules</th><th class="num">kernel</th><th class="num">proxy</th><th class="num">share</th></tr></thead><tbody>${body.join('\n')}</tbody></table></div>`;
}

function reasonTable(output: CheckOutput): string {
  const body = output.totals.byReason.map(
    (r) =>
      `<tr><td><button type="button" data-set="reason" data-value="${r.code}" class="code">${r.code}</button></td><td class="num">${grouped(r.rules)}</td><td>${inline(r.title)}<br><span class="quiet">${inline(r.fix)}</span> <a href="#reason-${r.code}">More</a></td></tr>`,
  );
  return `<div class="card"><h3>By reason, with what would change it</h3><table><thead><tr><th>reason</th><th class="num">rules</th><th></th></tr></thead><tbody>${body.join('\n')}</tbody></table></div>`;
}

function ruleRow(r: ReportResult, files: Files): string {
  const codes = [...new Set(r.reasons.map((reason) => reason.code))].join(' ');
  const reasons = r.reasons.map((reason) => {
    const other = reason.file !== r.file || reason.line !== r.line;
    const at = other && reason.line > 0 ? ` (${place(reason.file, reason.line, files, `line ${reason.line}`)})` : '';
    return `<div class="why"><a class="code" href="#reason-${escapeHtml(reason.code)}">${escapeHtml(reason.code)}</a> ${escapeHtml(reason.message)}${at}</div>`;
  });
  const name = [r.kind, r.name, r.rule].filter((s) => s !== '').join(' ');
  return `<tr data-verdict="${r.verdict}" data-kind="${escapeHtml(r.kind)}" data-file="${escapeHtml(r.file)}" data-codes="${escapeHtml(codes)}"><td><span class="badge ${r.verdict}">${r.verdict}</span></td><td>${escapeHtml(name)}${reasons.join('')}</td><td class="where">${place(r.file, r.line, files)}</td></tr>`;
}

function options(values: readonly string[], all: string): string {
  const list = values.map((v) => `<option value="${escapeHtml(v)}">${escapeHtml(v)}</option>`);
  return `<option value="">${all}</option>${list.join('')}`;
}

function rules(output: CheckOutput, files: Files): string {
  const order = { invalid: 0, proxy: 1, kernel: 2 } as const;
  const sorted = [...output.results].sort((a, b) => order[a.verdict] - order[b.verdict]);
  const { byKind, byFile, byReason } = output.totals;
  const boxes = (['kernel', 'proxy', 'invalid'] as const)
    .filter((v) => output[v] > 0)
    .map((v) => `<label><input type="checkbox" value="${v}" checked> <span class="badge ${v}">${v}</span></label>`);
  return `<section id="list"><h2>Rules</h2><div class="card"><div class="filters scripted" hidden>
<input type="search" id="search" placeholder="Filter: name, file, message …" aria-label="Filter the rules">${boxes.join('')}
<select id="kind" aria-label="Kind">${options(
    byKind.map((k) => k.kind),
    'every kind',
  )}</select>
<select id="file" aria-label="File">${options(
    byFile.map((f) => f.file),
    'every file',
  )}</select>
<select id="reason" aria-label="Reason">${options(
    byReason.map((r) => r.code),
    'every reason',
  )}</select>
<span class="quiet" id="shown" role="status"></span></div>
<table id="rules"><thead><tr><th>verdict</th><th>rule</th><th>where</th></tr></thead><tbody>
${sorted.map((r) => ruleRow(r, files)).join('\n')}
</tbody></table><button type="button" class="more" id="more" hidden></button></div></section>`;
}

function findings(output: CheckOutput, files: Files): string {
  const all = [
    ...output.errors.map((f) => ({ ...f, severity: 'error' })),
    ...output.warnings.map((f) => ({ ...f, severity: 'warning' })),
  ];
  if (all.length === 0) return '';
  const items = all.slice(0, FINDINGS).map((f) => {
    const at = f.file === '' ? '' : `<span class="code">${place(f.file, f.line, files)}</span> `;
    const hint = f.hint ? ` <span class="quiet">${escapeHtml(f.hint)}</span>` : '';
    return `<li><span class="tag ${f.severity}">${f.severity}</span>${at}${f.field ? `<span class="code">${escapeHtml(f.field)}</span> ` : ''}${escapeHtml(f.message)}${hint} <span class="quiet code">${escapeHtml(f.code)}</span></li>`;
  });
  if (all.length > FINDINGS) items.push(`<li class="quiet">and ${grouped(all.length - FINDINGS)} more</li>`);
  return `<section id="findings"><h2>Errors and warnings</h2><div class="card"><ul class="findings">${items.join('\n')}</ul></div></section>`;
}

function reasonCards(output: CheckOutput): string {
  const cards = output.totals.byReason.map(({ code, rules: n }) => {
    const { title, explanation } = reasonText(code);
    const guide = GUIDES[code];
    const fix = guide?.fix ? `<p class="fix"><b>What would change it:</b> ${inline(guide.fix)}</p>` : '';
    const pair = guide?.example
      ? `<div class="pair"><div class="before"><h4>Through the proxy (${guide.example.place})</h4><pre>${escapeHtml(guide.example.before)}</pre></div><div class="after"><h4>In the kernel</h4><pre>${escapeHtml(guide.example.after)}</pre></div></div>`
      : '';
    return `<article class="reason" id="reason-${code}"><h3>${inline(title)} <span class="quiet code">${code}</span></h3><p>${inline(explanation)}</p>${fix}${pair}<p class="quiet">${grouped(n)} ${n === 1 ? 'rule' : 'rules'} here · docs/reasons/${code}.md</p></article>`;
  });
  return cards.length === 0 ? '' : `<section id="reasons"><h2>The reasons</h2>${cards.join('\n')}</section>`;
}

/**
 * The whole page: numbers, charts, tables with filters, findings, annotated sources and the documentation of the reasons
 * that occur. It loads nothing, and its policy (CSP) forbids it to.
 * @param sources the texts of the files, for annotation
 */
export function checkHtml(output: CheckOutput, sources: Sources): string {
  const files = filesOf(output);
  const { byKind, byFile, byReason } = output.totals;
  const hash = createHash('sha256').update(SCRIPT).digest('base64');
  const policy = `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'`;
  const findingsHtml = findings(output, files);
  const links = [
    ['overview', 'Overview'],
    ['list', 'Rules'],
    ...(findingsHtml === '' ? [] : [['findings', 'Errors and warnings']]),
    ['sources', 'Sources'],
    ...(byReason.length > 0 ? [['reasons', 'Reasons']] : []),
  ];
  const charts = [
    byKind.length > 0 ? `<div class="card"><h3>Rules by kind</h3>${kindsChart(output)}</div>` : '',
    byReason.length > 0 ? `<div class="card"><h3>Why the proxy</h3>${reasonsChart(output)}</div>` : '',
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${policy}"><meta name="referrer" content="no-referrer">
<title>Sidestep: ${output.kernel} of ${output.rules} rules in the kernel</title><style>${STYLE}</style></head><body>
${header(output)}
<nav aria-label="Sections"><div class="in">${links.map(([id, text]) => `<a href="#${id}">${text}</a>`).join('')}</div></nav>
<main>
<section id="overview"><h2>Overview</h2><div class="grid">${charts.join('')}</div></section>
<section><div class="grid">${tallyTable(
    'kind',
    'By kind',
    byKind.map(({ kind, ...t }) => ({ group: kind, ...t })),
  )}${tallyTable(
    'file',
    'By file',
    byFile.map(({ file, ...t }) => ({ group: file, ...t })),
  )}</div></section>
${byReason.length > 0 ? `<section>${reasonTable(output)}</section>` : ''}
${rules(output, files)}
${findingsHtml}
<section id="sources"><h2>Sources</h2><ul class="legend" style="margin:0 0 14px"><li><span class="swatch kernel"></span>K: in the kernel</li><li><span class="swatch proxy"></span>P: through the proxy</li><li><span class="swatch invalid"></span>!: in a file with errors</li></ul>
${sourcesHtml(output, sources, files.index)}</section>
${reasonCards(output)}
<footer>Made by <code>sidestep check --html</code>. The page holds the policies that were checked; handle it as them.</footer>
</main><script>${SCRIPT}</script></body></html>
`;
}

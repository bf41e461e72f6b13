/** The files of a report, each line marked with what becomes of the rule in it. */
import type { ReportResult } from '../plan/report.js';
import type { CheckOutput, Sources } from './check.js';
import { extentsOf } from './extents.js';
import { escapeHtml, grouped, highlight } from './html-text.js';

interface Note {
  readonly kind: 'proxy' | 'invalid' | 'warning' | 'error';
  readonly code: string;
  readonly text: string;
  rules: number;
}

/** The id of a line, for links. */
export function lineId(file: number, line: number): string {
  return `f${file}-${line}`;
}

/** Open from the start are files up to here, those with problems first. */
const OPEN_FILES = 8;
const OPEN_LINES = 2_000;

function marks(text: string, results: readonly ReportResult[], count: number): (ReportResult['verdict'] | '')[] {
  const end = extentsOf(text);
  const out = new Array<ReportResult['verdict'] | ''>(count + 1).fill('');
  // what lies inside another rule is marked last
  const spans = results
    .map((r) => ({ r, last: Math.min(count, end(r.line, r.column)) }))
    .sort((a, b) => b.last - b.r.line - (a.last - a.r.line));
  for (const { r, last } of spans) for (let line = r.line; line <= last; line++) out[line] = r.verdict;
  return out;
}

function notesOf(output: CheckOutput): Map<string, Note[]> {
  const notes = new Map<string, Note[]>();
  const add = (file: string, line: number, note: Omit<Note, 'rules'>): void => {
    const key = `${file}\0${line}`;
    const list = notes.get(key) ?? [];
    const same = list.find((n) => n.code === note.code && n.text === note.text);
    if (same) same.rules++;
    else list.push({ ...note, rules: 1 });
    notes.set(key, list);
  };
  for (const e of output.errors) add(e.file, e.line, { kind: 'error', code: e.code, text: e.message });
  for (const w of output.warnings)
    add(w.file, w.line, { kind: 'warning', code: w.code, text: w.hint ? `${w.message} (${w.hint})` : w.message });
  for (const r of output.results) {
    for (const reason of r.reasons)
      add(reason.file, reason.line || r.line, { kind: 'proxy', code: reason.code, text: reason.message });
  }
  return notes;
}

function noteHtml(note: Note): string {
  const many = note.rules > 1 ? ` <span class="many">${grouped(note.rules)} rules</span>` : '';
  const code =
    note.kind === 'proxy'
      ? `<a class="code" href="#reason-${escapeHtml(note.code)}">${escapeHtml(note.code)}</a>`
      : `<span class="code">${escapeHtml(note.code)}</span>`;
  return `<div class="note ${note.kind}">${code} ${escapeHtml(note.text)}${many}</div>`;
}

const MARK = { kernel: 'K', proxy: 'P', invalid: '!', '': '' } as const;

/** All files that have rules or findings, as foldable blocks. `index` gives each file its number in line ids. */
export function sourcesHtml(output: CheckOutput, sources: Sources, index: ReadonlyMap<string, number>): string {
  const notes = notesOf(output);
  const byFile = new Map<string, ReportResult[]>();
  for (const r of output.results) byFile.set(r.file, [...(byFile.get(r.file) ?? []), r]);
  let open = 0;
  const blocks = [...index].map(([file, number]) => {
    const text = sources.get(file);
    if (text === undefined) return '';
    const results = byFile.get(file) ?? [];
    const lines = text.replace(/\n$/, '').split(/\r?\n/);
    const verdicts = marks(text, results, lines.length);
    const firsts = new Set(results.map((r) => r.line));
    const rows = lines.map((line, i) => {
      const verdict = verdicts[i + 1]!;
      const first = firsts.has(i + 1) ? ' first' : '';
      const found = notes.get(`${file}\0${i + 1}`) ?? [];
      return `<div class="l ${verdict}${first}" id="${lineId(number, i + 1)}"><span class="n">${i + 1}</span><span class="m">${MARK[verdict]}</span><code>${highlight(line)}</code></div>${found.map(noteHtml).join('')}`;
    });
    const kernel = results.filter((r) => r.verdict === 'kernel').length;
    const opened = open < OPEN_FILES && lines.length <= OPEN_LINES ? ' open' : '';
    open++;
    return `<details class="file"${opened}><summary><span class="path">${escapeHtml(file)}</span> <span class="quiet">${kernel} of ${results.length} in the kernel</span></summary>
<div class="source">${rows.join('\n')}</div></details>`;
  });
  return blocks.join('\n');
}

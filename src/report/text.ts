/** The report of `check` for people. */
import type { CheckReport, ReportReason, ReportResult } from '../plan/report.js';
import type { CheckOutput } from './check.js';
import { waiting } from './clients.js';
import { type Paint, plain } from './paint.js';

export interface TextOptions {
  /** every rule and every reason, however many */
  readonly verbose?: boolean;
  readonly paint?: Paint;
  /** characters in a line; what is longer is not broken, only the bar is drawn to fit */
  readonly width?: number;
}

/** Up to here every rule is shown without being asked. */
const SHOWN_WHOLE = 60;
const RULES_OF_A_FILE = 5;
const FILES = 12;
const REASONS_OF_A_RULE = 2;
const TOP_REASONS = 8;
const BAR = 50;
const FIELD_END = 36;

const percent = (part: number, all: number): string => `${all === 0 ? '100.0' : ((100 * part) / all).toFixed(1)}%`;
const n = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`;

function group(results: readonly ReportResult[]): Map<string, ReportResult[]> {
  const files = new Map<string, ReportResult[]>();
  for (const r of results) {
    const list = files.get(r.file);
    if (list) list.push(r);
    else files.set(r.file, [r]);
  }
  return files;
}

/** Fields of generated resources have long paths; beginning and end say most. */
function shorten(field: string): string {
  return field.length <= 2 * FIELD_END ? field : `${field.slice(0, FIELD_END)}…${field.slice(-FIELD_END)}`;
}

const ruleName = (r: ReportResult): string => [r.kind, r.name, r.rule].filter((s) => s !== '').join(' ');

class Writer {
  readonly lines: string[] = [];
  readonly brief: boolean;
  readonly paint: Paint;

  constructor(
    readonly output: CheckOutput,
    readonly options: TextOptions,
  ) {
    this.brief = !options.verbose && output.results.length > SHOWN_WHOLE;
    this.paint = options.paint ?? plain;
  }

  /** Reasons that differ in their place only are one line. */
  reasons(r: ReportResult, indent: string): void {
    const same = new Map<string, ReportReason[]>();
    for (const reason of r.reasons) {
      const key = `${reason.code}\0${reason.message}`;
      same.set(key, [...(same.get(key) ?? []), reason]);
    }
    const all = [...same.values()];
    const shown = this.brief ? all.slice(0, REASONS_OF_A_RULE) : all;
    for (const [reason, ...others] of shown) {
      const { code, message, field, file, line } = reason!;
      const elsewhere = file !== r.file ? `${file}:${line}` : `line ${line}`;
      const where = line > 0 && (file !== r.file || line !== r.line) ? `${elsewhere}: ` : '';
      const more = others.length > 0 ? ` and ${n(others.length, 'more place')}` : '';
      const shownField = this.options.verbose ? field : shorten(field);
      const at = field === '' ? '' : this.paint.dim(` [${where}${shownField}${more}]`);
      this.lines.push(`${indent}${this.paint.code(code)}: ${message}${at}`);
    }
    const more = all.length - shown.length;
    if (more > 0) this.lines.push(`${indent}${this.paint.dim(`and ${n(more, 'more reason')}`)}`);
  }

  rule(r: ReportResult, width: number): void {
    const { paint } = this;
    const verdict = paint[r.verdict](r.verdict.padEnd(7));
    this.lines.push(`  ${verdict} ${paint.dim(String(r.line).padStart(width))}  ${ruleName(r)}`);
    this.reasons(r, ' '.repeat(12 + width));
  }

  file(file: string, all: readonly ReportResult[]): void {
    const { paint } = this;
    const kernel = all.filter((r) => r.verdict === 'kernel').length;
    const problems = all.filter((r) => r.verdict !== 'kernel');
    const shown = this.brief
      ? problems.slice(0, RULES_OF_A_FILE)
      : [...problems, ...all.filter((r) => r.verdict === 'kernel')];
    this.lines.push(`${paint.bold(file)}  ${paint.dim(`${kernel} of ${n(all.length, 'rule')} in the kernel`)}`);
    const width = String(Math.max(...all.map((r) => r.line))).length;
    for (const r of shown) this.rule(r, width);
    const more = problems.length - shown.length;
    if (this.brief && more > 0) this.lines.push(paint.dim(`  and ${more} more that are not in the kernel`));
    this.lines.push('');
  }

  files(): void {
    const files = [...group(this.output.results)];
    const bad = files.filter(([, all]) => all.some((r) => r.verdict !== 'kernel'));
    const good = files.filter(([, all]) => all.every((r) => r.verdict === 'kernel'));
    if (!this.brief) {
      for (const [file, all] of [...bad, ...good]) this.file(file, all);
      return;
    }
    for (const [file, all] of bad.slice(0, FILES)) this.file(file, all);
    const rules = (list: typeof files) => list.reduce((sum, [, all]) => sum + all.length, 0);
    const hidden = bad.slice(FILES);
    if (hidden.length > 0) this.lines.push(`${n(hidden.length, 'more file')} with rules that are not in the kernel`);
    if (good.length > 0) this.lines.push(`${n(good.length, 'file')} with ${n(rules(good), 'rule')}: all in the kernel`);
    this.lines.push(this.paint.dim('--verbose shows every rule'), '');
  }

  summary(): void {
    const { output, paint } = this;
    const share = percent(output.kernel, output.rules);
    const parts = [
      `${output.kernel} in the kernel (${share})`,
      `${output.proxy} through the proxy${output.rules > 0 ? ` (${percent(output.proxy, output.rules)})` : ''}`,
      ...(output.invalid > 0 ? [`${output.invalid} in files with errors`] : []),
    ];
    this.lines.push(
      paint.bold(`${n(output.rules, 'rule')} in ${n(output.documents, 'document')}: ${parts.join(', ')}`),
    );
    if (output.rules > 0) {
      const bar = Math.min(BAR, this.options.width ?? BAR);
      const kernel = Math.round((bar * output.kernel) / output.rules);
      const proxy = Math.min(bar - kernel, Math.round((bar * output.proxy) / output.rules));
      const invalid = bar - kernel - proxy;
      this.lines.push(
        `${paint.kernel('█'.repeat(kernel))}${paint.proxy('▒'.repeat(proxy))}${paint.invalid('·'.repeat(invalid))}`,
      );
      for (const [rules, what] of waiting(output)) {
        const more = `${rules} of the proxy's would be in the kernel but for ${what}`;
        this.lines.push(paint.dim(`${more} (${percent(rules, output.rules)})`));
      }
    }
  }

  kinds(): void {
    const { byKind } = this.output.totals;
    if (byKind.length < 2) return;
    const width = Math.max(...byKind.map((k) => k.kind.length));
    const digits = String(this.output.rules).length;
    this.lines.push('', this.paint.bold('By kind'));
    for (const k of byKind) {
      const all = String(k.rules).padStart(digits);
      const kernel = String(k.kernel).padStart(digits);
      const share = percent(k.kernel, k.rules).padStart(6);
      const invalid = k.invalid > 0 ? `, ${k.invalid} invalid` : '';
      this.lines.push(`  ${k.kind.padEnd(width)}  ${kernel} of ${all} in the kernel ${share}${invalid}`);
    }
  }

  topReasons(): void {
    const { byReason } = this.output.totals;
    if (byReason.length === 0) return;
    const shown = this.options.verbose ? byReason : byReason.slice(0, TOP_REASONS);
    const width = Math.max(...shown.map((r) => r.code.length));
    const digits = Math.max(...shown.map((r) => String(r.rules).length));
    this.lines.push('', this.paint.bold('Why the proxy, and what would change it'));
    for (const r of shown) {
      const head = `  ${String(r.rules).padStart(digits)}  ${this.paint.code(r.code.padEnd(width))}  ${r.title}`;
      this.lines.push(head);
      if (r.fix !== '') this.lines.push(`${' '.repeat(6 + digits + width)}${this.paint.dim(r.fix)}`);
    }
    const more = byReason.length - shown.length;
    if (more > 0) this.lines.push(this.paint.dim(`  and ${n(more, 'other reason')} (--verbose)`));
    this.lines.push('', this.paint.dim('`sidestep reasons CODE` explains a reason, with an example (docs/reasons/).'));
  }
}

/** The report for people: files with problems first, then a summary with shares and the most frequent reasons. */
export function checkText(output: CheckOutput, options: TextOptions = {}): string {
  const writer = new Writer(output, options);
  writer.files();
  writer.summary();
  writer.kinds();
  writer.topReasons();
  const { errors, warnings } = output;
  if (warnings.length > 0) writer.lines.push('', `${n(warnings.length, 'warning')}; docs/lint.md explains them`);
  if (errors.length > 0) writer.lines.push('', `${n(errors.length, 'error')}: nothing would be loaded`);
  return `${writer.lines.join('\n')}\n`;
}

/** A finding as editors and CI systems read it: `file:line:column: severity: field: message (hint) [code]`. */
export function findingText(
  severity: 'error' | 'warning',
  f: CheckReport['errors'][number],
  paint: Paint = plain,
): string {
  const where = f.file === '' ? '' : `${f.file}:${f.line}:${f.column}: `;
  const field = f.field === '' ? '' : `${f.field}: `;
  const hint = f.hint === undefined ? '' : ` (${f.hint})`;
  return `${where}${paint[severity](severity)}: ${field}${f.message}${hint} ${paint.dim(`[${f.code}]`)}`;
}

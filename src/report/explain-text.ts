/** The trace of `explain` for people. */
import type { Candidate, Explanation, Failure } from './explain.js';
import { type Paint, plain } from './paint.js';

/** Rules that are shown before the one that wins, unless all are asked for. */
const SHOWN = 20;
const ENDPOINTS = 5;

const label = (text: string): string => text.padEnd(14);

function failureText(f: Failure): string {
  if (f.field === 'any of') return `needs any of: ${f.expected}`;
  if (f.field === 'not') return `needs not: ${f.expected}`;
  if (f.field === 'nothing') return f.expected;
  const actual = f.actual === null ? 'there is none' : `it is ${JSON.stringify(f.actual)}`;
  return `needs: ${f.field} ${f.expected}; ${actual}`;
}

function where(place: { file: string; line: number }, paint: Paint): string {
  return place.file === '' ? '' : `  ${paint.dim(`${place.file}:${place.line}`)}`;
}

function candidateLines(c: Candidate, several: boolean, paint: Paint): string[] {
  const share = several ? `  weight ${c.weight} (${c.share}%)` : '';
  const all = c.endpoints.map(({ address, port }) => `${address.includes(':') ? `[${address}]` : address}:${port}`);
  const more = all.length > ENDPOINTS ? ` and ${all.length - ENDPOINTS} more` : '';
  const endpoints = all.slice(0, ENDPOINTS).join(', ');
  const lines = [`  ${c.cluster}${share}`];
  if (all.length === 0 && c.lb !== '')
    lines.push(paint.dim(`      ${c.lb.replace('_', ' ')}: the endpoints that the proxy looks up`));
  if (all.length > 0) lines.push(paint.dim(`      ${c.lb.replace('_', ' ')}: ${endpoints}${more}`));
  return lines;
}

class Writer {
  readonly lines: string[] = [];
  constructor(
    readonly x: Explanation,
    readonly paint: Paint,
    readonly verbose: boolean,
  ) {}

  rules(): void {
    const { paint, x } = this;
    if (x.considered.length === 0) return;
    this.lines.push('rules');
    const skip = this.verbose ? 0 : Math.max(0, x.considered.length - SHOWN);
    if (skip > 0) this.lines.push(paint.dim(`     ${skip} rules that do not match (--verbose shows them)`));
    for (const rule of x.considered.slice(skip)) {
      const matched = rule.outcome === 'matched';
      const name = matched ? paint.bold(rule.name) : rule.name;
      this.lines.push(`  ${matched ? '=>' : '  '} ${name}: ${rule.outcome}${where(rule, paint)}`);
      for (const f of rule.failed) this.lines.push(`       ${failureText(f)}`);
    }
  }

  access(): void {
    const { paint, x } = this;
    if (x.access.length === 0) return;
    this.lines.push('access');
    for (const check of x.access) {
      const policies = check.policies.length === 0 ? ' (no policy)' : '';
      this.lines.push(`     ${check.action.toUpperCase()}: ${check.outcome}${policies}`);
      for (const p of check.policies) {
        const name = p.name === '' ? 'policy' : p.name;
        this.lines.push(`  ${p.outcome === 'matched' ? '=>' : '  '}   ${name}: ${p.outcome}${where(p, paint)}`);
        for (const f of p.failed) this.lines.push(`         ${failureText(f)}`);
      }
    }
  }

  result(): void {
    const { paint } = this;
    const { result } = this.x;
    if (!result) return;
    if (result.kind === 'reply') {
      this.lines.push(`${label('answered with')}${result.status}`);
      for (const [name, value] of result.headers) this.lines.push(`  ${name}: ${value}`);
      if (result.body !== '') this.lines.push(`  ${result.body.replace(/\n$/, '').replaceAll('\n', '\n  ')}`);
      return;
    }
    this.lines.push(result.kind === 'connect' ? 'connected to' : 'forwarded to');
    const several = result.clusters.length > 1;
    for (const c of result.clusters) this.lines.push(...candidateLines(c, several, paint));
    if (result.kind === 'connect') return;
    if (result.edits.length > 0) this.lines.push('edits', ...result.edits.map((edit) => `  ${edit}`));
    this.lines.push('as', `  ${this.x.request.method} ${result.target}`);
    for (const [name, value] of result.headers) this.lines.push(`  ${name}: ${value}`);
    for (const { name, text } of result.settings) this.lines.push(`${label(name)}${text}`);
  }
}

/** The trace in lines: which rules were considered and why they do not match, access, the path, what happens. */
export function explainText(x: Explanation, paint: Paint = plain, verbose = false): string {
  const writer = new Writer(x, paint, verbose);
  const { lines } = writer;
  lines.push(`${label('listener')}${x.listener}`, `${label('virtual host')}${x.virtualHost || '(none)'}`);
  writer.rules();
  writer.access();
  lines.push(`${label('decided by')}${paint[x.verdict](`the ${x.verdict}`)}: ${x.why}`);
  for (const r of x.reasons) {
    const at = r.file === '' ? '' : `${r.file}:${r.line}: `;
    lines.push(`  ${paint.code(r.code)}: ${r.message} ${paint.dim(`[${at}${r.field}]`)}`);
  }
  writer.result();
  return `${lines.join('\n')}\n`;
}

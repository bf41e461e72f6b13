/** Where something stands in a user's file; lines and columns count from 1. */
export interface Position {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** Something to tell the user. Diagnostics are values that are collected, never thrown. */
export interface Diagnostic {
  readonly severity: 'error' | 'warning';
  /** stable code, e.g. `unknown-field` */
  readonly code: string;
  readonly message: string;
  readonly position?: Position;
  /** path of the offending field, e.g. `spec.http[0].match` */
  readonly field?: string;
  /** what the user can do */
  readonly hint?: string;
}

/** `file:line:column: severity: field: message (hint)`, one line. */
export function formatDiagnostic(d: Diagnostic): string {
  const where = d.position ? `${d.position.file}:${d.position.line}:${d.position.column}: ` : '';
  const field = d.field ? `${d.field}: ` : '';
  const hint = d.hint ? ` (${d.hint})` : '';
  return `${where}${d.severity}: ${field}${d.message}${hint}`;
}

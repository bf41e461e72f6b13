/**
 * Templates (Helm, Go) whose actions stand in quotes are well-formed YAML, and read as what they are not: a host named
 * `{{ .Values.host }}`. A warning, not an error: bodies and scripts may contain such text and mean it.
 */
import { type LineCounter, Scalar, visit, type Document as YamlDocument } from 'yaml';
import type { Diagnostic } from './diagnostics.js';

/** An action of a Go template that looks something up or calls something. */
const ACTION =
  /\{\{-?\s*(?:[.$(]|(?:include|template|tpl|default|quote|printf|required|lower|trunc|trimSuffix|toYaml)\s).*?\}\}/;

/** A warning for the first text of a document that has an action; texts of several lines are bodies and scripts. */
export function templateWarning(
  doc: YamlDocument.Parsed,
  lineCounter: LineCounter,
  file: string,
): Diagnostic | undefined {
  let found: Diagnostic | undefined;
  visit(doc, {
    Scalar(_, { value, type, range }) {
      if (typeof value !== 'string' || type === Scalar.BLOCK_LITERAL || type === Scalar.BLOCK_FOLDED) return;
      const action = ACTION.exec(value)?.[0];
      if (action === undefined) return;
      const { line, col } = lineCounter.linePos(range?.[0] ?? 0);
      found = {
        ...{ severity: 'warning', code: 'template', message: `text of a template that was not rendered: ${action}` },
        position: { file, line: Math.max(line, 1), column: Math.max(col, 1) },
        hint: 'it is taken as it stands; render it first, for example with helm template',
      };
      return visit.BREAK;
    },
  });
  return found;
}

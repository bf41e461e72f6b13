/** What is wrong with how a file is written, in words that lead to the cause. */
import { isAlias, isCollection, isNode, isScalar, type LineCounter, visit, type Document as YamlDocument } from 'yaml';
import type { Diagnostic } from './diagnostics.js';

/** What follows the first few syntax errors follows from them. */
const MAX_SYNTAX_ERRORS = 10;
/** An action of a Go template (Helm), where it is no part of a quoted text or of a comment. */
const TEMPLATE = /^[^"'#\n]*?(\{\{.*?\}\})/m;

/** Half of a surrogate pair without its other half, as an escape may write it: no character, and no text in UTF-8. */
const HALF = /\p{Surrogate}/u;

/** Keys that are objects or lists, aliases of nothing, text that is none: well formed, and no policy has them. */
function oddNodes(doc: YamlDocument): { offset: number; message: string }[] {
  const found: { offset: number; message: string }[] = [];
  const offsetOf = (node: unknown): number => (isNode(node) ? (node.range?.[0] ?? 0) : 0);
  const anchors = new Set<string>();
  visit(doc, {
    Pair(_, { key }) {
      const named = isAlias(key) ? key.resolve(doc) : key;
      if (isCollection(named)) found.push({ offset: offsetOf(key), message: 'a key is text, not an object or a list' });
    },
    Node(_, node) {
      if (isScalar(node) && typeof node.value === 'string' && HALF.test(node.value))
        found.push({ offset: offsetOf(node), message: 'half of a surrogate pair is no character' });
      if (isAlias(node)) {
        if (!anchors.has(node.source))
          found.push({
            offset: offsetOf(node),
            message: `the alias *${node.source} has no anchor &${node.source} before it`,
          });
      } else if (node.anchor !== undefined) anchors.add(node.anchor);
    },
  });
  return found;
}

/**
 * The syntax errors of a YAML text, the first ones of many. Where it is a template that was not rendered, this is the only one.
 * @param docs what the parser made of the text
 */
export function syntaxErrors(
  text: string,
  docs: readonly YamlDocument.Parsed[],
  lineCounter: LineCounter,
  file: string,
): Diagnostic[] {
  const at = (offset: number) => {
    const { line, col } = lineCounter.linePos(offset);
    return { file, line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const error = (code: string, message: string, offset: number): Diagnostic => ({
    ...{ severity: 'error', code, message },
    position: at(offset),
  });
  const found: Diagnostic[] = [];
  for (const { message, pos } of docs.flatMap((doc) => doc.errors)) {
    const deep = /call stack/.test(message);
    found.push(error(deep ? 'too-deep' : 'syntax', deep ? 'nested too deep' : message, pos[0]));
    if (deep) return found.slice(-1);
  }
  if (found.length === 0)
    for (const doc of docs)
      for (const { message, offset } of oddNodes(doc)) found.push(error('syntax', message, offset));
  if (found.length === 0) return [];
  const template = TEMPLATE.exec(text);
  if (template === null) return found.slice(0, MAX_SYNTAX_ERRORS);
  const [line, action] = template as unknown as [string, string];
  const offset = template.index + line.length - action.length;
  const hint = 'render it first, for example with helm template';
  return [{ ...error('template', `a template, not yet a policy: ${action}`, offset), hint }];
}

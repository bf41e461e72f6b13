/** The words of Envoy's configuration that the plan reads: fields, kinds of matchers, types of extensions; taken from its source. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { packageRoot } from '../../../src/lab/paths.js';

/** Functions of the plan whose later arguments are names of fields. */
const READS = new Set(['has', 'obj', 'str', 'num', 'bool', 'list', 'strings', 'durationMs', 'onlyFields']);
const FIELD = /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/;
const TYPE = /([a-z_]+\.v3\.[A-Z]\w+|[A-Z]\w*(Config|Policy|Context|Predicate|Hosts))$/;
/** Files of the plan that are about its own words. */
const OWN = new Set(['ir.ts', 'reasons.ts', 'reasons-doc.ts', 'describe.ts', 'report.ts', 'notes.ts', 'runtime.ts']);

/** The words of one source file. */
function wordsOf(source: ts.SourceFile): Set<string> {
  const words = new Set<string>();
  const lists = new Map<string, ts.Expression>();
  const literals = (node: ts.Node): void => {
    if (ts.isStringLiteralLike(node)) {
      if (FIELD.test(node.text)) words.add(node.text);
    } else if (ts.isIdentifier(node)) {
      const list = lists.get(node.text);
      lists.delete(node.text);
      if (list) literals(list);
    } else if (ts.isArrayLiteralExpression(node) || ts.isSpreadElement(node) || ts.isConditionalExpression(node))
      ts.forEachChild(node, literals);
  };
  const collect = (node: ts.Node): void => {
    if (ts.isVariableDeclaration(node) && ts.isIdentifier(node.name) && node.initializer)
      if (ts.isArrayLiteralExpression(node.initializer)) lists.set(node.name.text, node.initializer);
    ts.forEachChild(node, collect);
  };
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && ts.isIdentifier(node.expression) && READS.has(node.expression.text))
      for (const argument of node.arguments.slice(node.expression.text === 'onlyFields' ? 3 : 1)) literals(argument);
    // a lone property of JSON: `o.exact_match`
    if (ts.isPropertyAccessExpression(node) && /_/.test(node.name.text) && FIELD.test(node.name.text))
      words.add(node.name.text);
    if (ts.isStringLiteralLike(node)) {
      const [type] = TYPE.exec(node.text) ?? [];
      if (type) words.add(type.split('.').at(-1)!);
      // names of fields in lists of the plan's own
      if (/_/.test(node.text) && FIELD.test(node.text)) words.add(node.text);
    }
    ts.forEachChild(node, visit);
  };
  collect(source);
  visit(source);
  return words;
}

/** The words of each file of the plan, by its name. */
export function planWords(): Map<string, string[]> {
  const folder = join(packageRoot(), 'src/plan');
  const found = new Map<string, string[]>();
  for (const name of readdirSync(folder).sort()) {
    if (!name.endsWith('.ts') || OWN.has(name)) continue;
    const text = readFileSync(join(folder, name), 'utf8');
    const words = [...wordsOf(ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true))].sort();
    if (words.length > 0) found.set(name, words);
  }
  return found;
}

/** How far a rule reaches in its file: the YAML (or JSON) node that begins at its position. */
import { isNode, LineCounter, parseAllDocuments, visit } from 'yaml';

/** Gives the last line of the largest node that begins at a line and column; the line itself if there is none. */
export function extentsOf(text: string): (line: number, column: number) => number {
  const lines = new LineCounter();
  const ends = new Map<number, number>();
  const add = (from: number | undefined, to: number | undefined): void => {
    if (from !== undefined && to !== undefined) ends.set(from, Math.max(to, ends.get(from) ?? 0));
  };
  try {
    const docs = parseAllDocuments(text, { lineCounter: lines, uniqueKeys: false, prettyErrors: false });
    for (const doc of 'empty' in docs ? [] : docs) {
      visit(doc, {
        Pair(_, pair) {
          const value = isNode(pair.value) ? pair.value.range : undefined;
          if (isNode(pair.key)) add(pair.key.range?.[0], value?.[1] ?? pair.key.range?.[1]);
        },
        Collection(_, node) {
          add(node.range?.[0], node.range?.[1]);
        },
      });
    }
  } catch {
    // too deep, or broken: the report says so; here every rule is one line
  }
  return (line, column) => {
    const start = lines.lineStarts[line - 1];
    const end = start === undefined ? undefined : ends.get(start + column - 1);
    // ranges end behind the last character, which may be the end of its line
    return end === undefined || end <= 0 ? line : Math.max(line, lines.linePos(end - 1).line);
  };
}

/** Text in HTML. */

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** `text` so that it means itself in HTML, in attributes, too. Control characters are shown as a replacement. */
export function escapeHtml(text: string): string {
  return (
    text
      .replace(/[&<>"']/g, (c) => ENTITIES[c]!)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these have no meaning in HTML
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, '\ufffd')
  );
}

/** Text with `code` in backquotes. */
export function inline(text: string): string {
  return escapeHtml(text).replace(/`([^`]+)`/g, '<code>$1</code>');
}

/** 12,345 */
export function grouped(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** A line of YAML or JSON with its key and comment marked. */
export function highlight(line: string): string {
  const comment = /^(?:[^"'#]|"[^"]*"|'[^']*')*?(?:^|\s)(#.*)$/.exec(line);
  const [code, rest] = comment ? [line.slice(0, line.length - comment[1]!.length), comment[1]!] : [line, ''];
  const key = /^(\s*(?:- )*\s*)("[^"]*"|[A-Za-z0-9_.@/-]+)(:)(\s.*|$)/.exec(code);
  const marked = key
    ? `${escapeHtml(key[1]!)}<b>${escapeHtml(key[2]!)}</b>${key[3]}${escapeHtml(key[4]!)}`
    : escapeHtml(code);
  return rest === '' ? marked : `${marked}<i>${escapeHtml(rest)}</i>`;
}

/** The folder that all paths have in common, with its slash; '' if there is none. */
export function commonFolder(paths: readonly string[]): string {
  const [first = '', ...rest] = paths;
  let length = first.lastIndexOf('/') + 1;
  for (const path of rest) {
    while (length > 0 && !path.startsWith(first.slice(0, length))) length = first.lastIndexOf('/', length - 2) + 1;
  }
  return first.slice(0, length);
}

/** Damage to files as text. */

import { parse } from './damage.js';
import type { Draw } from './draw.js';

type TextDamage = (text: string, draw: Draw) => string;

/** Damage of one line. */
const onLine =
  (change: (line: string, draw: Draw) => string | string[]): TextDamage =>
  (text, draw) => {
    const lines = text.split('\n');
    const i = draw.below(lines.length);
    lines.splice(i, 1, ...[change(lines[i]!, draw)].flat());
    return lines.join('\n');
  };

/** Damage of how a file is written. */
export const TEXT_DAMAGES: Readonly<Record<string, TextDamage>> = {
  crlf: (text) => text.replaceAll('\n', '\r\n'),
  'lone cr': (text) => text.replaceAll('\n', '\r'),
  bom: (text) => `\ufeff${text}`,
  'bom between': (text) => `${text}\n---\n\ufeff${text}`,
  indent: onLine((line, draw) => ' '.repeat(1 + draw.below(3)) + line),
  outdent: onLine((line, draw) => line.slice(1 + draw.below(2))),
  tab: onLine((line) => line.replace(/^ +/, '\t')),
  'drop line': onLine(() => []),
  'line twice': onLine((line) => [line, line]),
  cut: (text, draw) => text.slice(0, draw.below(text.length + 1)),
  'cut line': onLine((line, draw) => line.slice(0, draw.below(line.length + 1))),
  comments: (text, draw) =>
    draw.one([
      `# nothing\n---\n# nothing\n---\n${text}`,
      `${text}\n---\n# nothing\n...\n---\n`,
      '# nothing\n---\n# at all',
    ]),
  separators: (text) => `---\n---\n${text}\n---\n---\n...\n...`,
  'separator inside': onLine((line) => ['---', line]),
  helm: onLine((line, draw) =>
    line.replace(/:.*$/, draw.one([': {{ .Values.x }}', ': "{{ .Values.x }}"', ': {{- include "x" . | nindent 4 }}'])),
  ),
  'helm block': onLine((line) => ['{{- if .Values.enabled }}', line, '{{- end }}']),
  'conflict marks': onLine((line) => ['<<<<<<< HEAD', line, '=======', line, '>>>>>>> branch']),
  anchor: onLine((line) => line.replace(/: *([^ ].*)$/, ': &a $1')),
  alias: (text, draw) => onLine((line) => line.replace(/: *(.*)$/, ': *a'))(TEXT_DAMAGES.anchor!(text, draw), draw),
  'alias of itself': onLine((line) => line.replace(/:\s*$/, ': &a\n      <<: *a')),
  merge: onLine((line) => [line, `${/^ */.exec(line)![0]}<<: {a: 1}`]),
  laughs: (text) =>
    `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefghi'.replace(/./g, (c) => `${c}: &${c} [${`*${String.fromCharCode(c.charCodeAt(0) - 1)},`.repeat(9)}]\n`)}${text}`,
  tag: onLine((line, draw) =>
    line.replace(/: *([^ ])/, `: ${draw.one(['!!binary', '!!int', '!!str', '!x', '!!set', '!!timestamp'])} $1`),
  ),
  'key of keys': onLine((line) => [`${/^ */.exec(line)![0]}? {a: 1}`, `${/^ */.exec(line)![0]}: x`, line]),
  quote: onLine((line) => line.replace(/: *(.*)$/, ': "$1')),
  block: onLine((line, draw) => line.replace(/: *(.*)$/, `: ${draw.one(['|', '>-', '|9'])}\n$1`)),
  characters: (text, draw) => {
    const i = draw.below(text.length + 1);
    return (
      text.slice(0, i) +
      draw.one([
        '\u0000',
        '\u0007',
        '\u2028',
        '\u00a0',
        '\u{1f600}',
        '\ufeff',
        '\u0301',
        '\ud800',
        '%',
        '&',
        '*',
        '!',
        '@',
        '`',
        '{',
        ']',
        ',',
      ]) +
      text.slice(i)
    );
  },
  'nested deep': (text, draw) => `${text}\nx: ${'['.repeat(draw.one([50, 3000]))}`,
  directive: (text, draw) => `${draw.one(['%YAML 1.1', '%YAML 9.9', '%TAG ! !x', '%X'])}\n---\n${text}`,
  json: (text) => {
    const docs = parse(text);
    return docs.length > 0 ? JSON.stringify(docs[0]) : text;
  },
};

/** What clients seldom send: other spellings, lines again, empty ones, bytes beyond ASCII, lengths at bounds. */
import type { Request } from '../../differential/requests.js';
import type { Draw } from '../../wild/damage.js';

type Line = [name: string, value: string];

const bytes = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');
const swapped = (text: string): string =>
  text.replace(/[A-Za-z]/g, (c) => (c === c.toLowerCase() ? c.toUpperCase() : c.toLowerCase()));

/** What becomes of the value of a header. */
const VALUES: readonly ((value: string) => string)[] = [
  () => '',
  (v) => swapped(v),
  (v) => ` ${v}\t`,
  (v) => `${v},${v}`,
  (v) => `${v} `,
  (v) => `"${v}"`,
  (v) => v.slice(0, -1),
  (v) => `${v}\t${v}`,
  (v) => v + bytes('\u00e9'),
  (v) => `${v}\u00ff`,
  (v) => `${v}\u0001`,
  (v) => v.repeat(40),
  (v) => `0${v}`,
  () => '-9223372036854775808',
  () => '18446744073709551616',
  () => '+1',
];
const LENGTHS = [63, 64, 65, 127, 255, 256, 257, 511, 1000];
const TARGETS: readonly ((target: string, draw: Draw) => string)[] = [
  (t) => swapped(t),
  (t) => t.replace(/(?=\?|$)/, '/'),
  (t, d) => t.replace(/(?=\?|$)/, `/${'p'.repeat(d.one(LENGTHS))}`),
  (t, d) => `${t}${t.includes('?') ? '&' : '?'}${'q'.repeat(d.one(LENGTHS))}=1`,
  (t) => t.replace(/(?=\?|$)/, '%2e'),
  (t) => t.replace(/(?=\?|$)/, '%41%7e'),
  (t) => t.replace(/(?=\?|$)/, bytes('/\u00fc')),
  (t) => t.replace(/(?=\?|$)/, '?'),
  (t) => `${t}?`,
  (t) => t.replace('?', '??'),
  (t) => t.replace(/(?=\?|$)/, '/%'),
  (t) => t.replace(/(?=\?|$)/, '//..//'),
  (t) => t.replace('/', '/./'),
  (t) => `${t}&q=1&q=2`,
  (t) => `http://other.example${t}`,
  (t) => `//other.example${t}`,
];

/** A request with one or two such changes; half of them stay as they are. */
export function adverse(request: Request, draw: Draw): Request {
  let { target, method } = request;
  const [host, ...lines] = request.headers as Line[];
  for (let n = draw.below(4) - 1; n > 0; n--)
    switch (draw.below(9)) {
      case 0:
        if (lines.length > 0) lines.push(draw.one(lines));
        break;
      case 1: {
        const at = draw.below(lines.length);
        const line = lines[at];
        if (line) lines[at] = [line[0], draw.one(VALUES)(line[1])];
        break;
      }
      case 2: {
        const line = lines.length > 0 && draw.one(lines);
        if (line) lines.push([swapped(line[0]), draw.one(VALUES)(line[1])]);
        break;
      }
      case 3: {
        const at = draw.below(lines.length);
        const line = lines[at];
        if (line) lines[at] = [swapped(line[0]), line[1]];
        break;
      }
      case 4:
        lines.push([`x-${'n'.repeat(draw.one(LENGTHS))}`, 'v'.repeat(draw.one(LENGTHS))]);
        break;
      case 5:
        method = draw.one(['get', 'PURGE', 'M-SEARCH', 'HEAD', 'OPTIONS', 'POST']);
        break;
      default:
        target = draw.one(TARGETS)(target, draw);
    }
  const body = method === 'POST' ? 10 : /^(HEAD|OPTIONS|get)$/.test(method) ? -1 : request.body;
  return { ...request, target, method, body, headers: draw.below(20) === 0 ? [...lines, host!] : [host!, ...lines] };
}

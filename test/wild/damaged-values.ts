/** Damage to documents as values: what is odd in the place of something, what is missing, doubled or elsewhere. */

import type { Draw } from './draw.js';

export type Tree = unknown;

type Holder = Record<string, Tree> | Tree[];

export const isHolder = (value: Tree): value is Holder => typeof value === 'object' && value !== null;

/** Every place in a document: who holds it, and under which key. */
function places(root: Tree): { holder: Holder; key: string | number }[] {
  const found: { holder: Holder; key: string | number }[] = [];
  const seen = new Set<object>();
  const walk = (value: Tree) => {
    if (!isHolder(value) || seen.has(value)) return;
    seen.add(value);
    const keys = Array.isArray(value) ? [...value.keys()] : Object.keys(value);
    for (const key of keys) {
      found.push({ holder: value, key });
      walk((value as Record<string | number, Tree>)[key]);
    }
  };
  walk(root);
  return found;
}

export const copy = (value: Tree): Tree => (isHolder(value) ? JSON.parse(JSON.stringify(value)) : value);

const ODD_STRINGS = [
  '',
  ' ',
  '*',
  '**',
  '/',
  '//',
  '.',
  '..',
  '-',
  '~',
  'null',
  '0',
  '-1',
  '1e400',
  '0x10',
  '*.*',
  '*.',
  '.*',
  '(',
  '[a',
  '(?i)',
  '(a+)+$',
  '\\',
  '%',
  '%REQ(:path)%',
  '%%',
  '%START_TIME(%s)%',
  '{*}',
  '{{ .Values.name }}',
  '{{- if .x }}',
  '$NAME',
  'a\nb',
  'a\r\nb: c',
  'a\u0000b',
  '\u0001',
  '\u007f',
  '\u00e9',
  '\u0130stanbul',
  '\u{1f600}',
  '\ud800',
  '\u202e\u2066',
  'a b',
  'A.B.C',
  'x'.repeat(70),
  'a.'.repeat(140),
  '1h1h',
  '99999999999999h',
  '-5s',
  '1.5.5s',
  '10.0.0.0/33',
  '::1',
  '[::1]:80',
  '256.1.1.1',
  'HTTP/1.1',
  ':path',
  ':authority',
  'Host',
  'cookie',
  'content-length',
  'transfer-encoding',
  'x-envoy-original-path',
  '__proto__',
  'constructor',
  'toString',
] as const;

const ODD_NUMBERS = [
  0,
  -1,
  1,
  65535,
  65536,
  2 ** 31,
  2 ** 32,
  2 ** 53 + 2,
  -(2 ** 63),
  1.5,
  1e300,
  Number.NaN,
  Infinity,
];

const ODD_KEYS = ['__proto__', 'constructor', 'hasOwnProperty', 'toString', '', ' ', '0', 'x\ny', '*', '\u{1f600}'];

const VERSIONS = ['v1', 'v1alpha3', 'v1beta1', 'v1alpha1', 'v2', '', '1'];

/** A huge one now and then: what it costs must not grow faster than it does. */
const HUGE = 60_000;

function oddValue(draw: Draw): Tree {
  switch (draw.below(9)) {
    case 0:
      return null;
    case 1:
      return [];
    case 2:
      return {};
    case 3:
      return draw.below(2) === 0;
    case 4:
      return draw.one(ODD_NUMBERS);
    case 5:
      return draw.below(6) === 0
        ? draw.one(['a', 'a/', 'a.', '(a|b)?', '[^/]']).repeat(HUGE / 6)
        : draw.one(ODD_STRINGS);
    case 6:
      return [null];
    case 7:
      return [[{}], 'x', 0];
    default:
      return draw.one(ODD_STRINGS);
  }
}

type Damage = (document: Tree, draw: Draw, donor: Tree) => Tree;

const at = (holder: Holder, key: string | number): Tree => (holder as Record<string | number, Tree>)[key];

const put = (holder: Holder, key: string | number, value: Tree): void => {
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });
};

/** Damage of one place; the document is its own copy. */
const onPlace =
  (change: (holder: Holder, key: string | number, draw: Draw, root: Tree) => void): Damage =>
  (document, draw) => {
    const all = places(document);
    if (all.length > 0) {
      const { holder, key } = draw.one(all);
      change(holder, key, draw, document);
    }
    return document;
  };

/** Damage of what a document says. */
export const DAMAGES: Readonly<Record<string, Damage>> = {
  drop: onPlace((holder, key) => {
    if (Array.isArray(holder)) holder.splice(Number(key), 1);
    else delete holder[key];
  }),
  odd: onPlace((holder, key, draw) => put(holder, key, oddValue(draw))),
  text: onPlace((holder, key, draw) => put(holder, key, draw.one(ODD_STRINGS))),
  nothing: onPlace((holder, key, draw) => put(holder, key, draw.one([null, [], {}, '']))),
  wrap: onPlace((holder, key, draw) => {
    const value = at(holder, key);
    put(holder, key, draw.one([[value], { value }, [value, value], String(value), [[value]]]));
  }),
  unwrap: onPlace((holder, key) => {
    const value = at(holder, key);
    if (isHolder(value)) put(holder, key, Object.values(value)[0]);
  }),
  flip: onPlace((holder, key) => {
    const value = at(holder, key);
    if (typeof value === 'number') put(holder, key, String(value));
    else if (typeof value === 'boolean') put(holder, key, !value);
    else if (typeof value === 'string')
      put(holder, key, value === value.toLowerCase() ? value.toUpperCase() : value.length);
  }),
  edit: onPlace((holder, key, draw) => {
    const value = at(holder, key);
    if (typeof value !== 'string') return;
    const i = draw.below(value.length + 1);
    put(holder, key, value.slice(0, i) + draw.one(ODD_STRINGS) + value.slice(i + draw.below(2)));
  }),
  twice: onPlace((holder, key, draw) => {
    const value = at(holder, key);
    if (Array.isArray(value) && value.length > 0) value.splice(draw.below(value.length + 1), 0, copy(draw.one(value)));
    else if (Array.isArray(holder)) holder.push(copy(value));
  }),
  order: onPlace((holder, key) => {
    const value = at(holder, key);
    if (Array.isArray(value)) value.reverse();
  }),
  rename: onPlace((holder, key, draw) => {
    if (Array.isArray(holder)) return;
    const value = holder[key];
    delete holder[key];
    const name = String(key);
    const words = [
      draw.one(ODD_KEYS),
      name.toUpperCase(),
      `${name}s`,
      name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`),
    ];
    put(holder, draw.one(words), value);
  }),
  more: onPlace((holder, _, draw) => {
    if (!Array.isArray(holder))
      put(holder, draw.one([...ODD_KEYS, 'unknownField', 'spec', 'name', 'match']), oddValue(draw));
  }),
  move: (document, draw) => {
    const all = places(document);
    if (all.length < 2) return document;
    const [a, b] = [draw.one(all), draw.one(all)];
    put(a.holder, a.key, copy(at(b.holder, b.key)));
    return document;
  },
  /** what another document has under the same key */
  graft: (document, draw, donor) => {
    const own = places(document).filter(({ key }) => typeof key === 'string');
    if (own.length === 0) return document;
    const { holder, key } = draw.one(own);
    const theirs = places(donor).filter((p) => p.key === key);
    if (theirs.length > 0) {
      const from = draw.one(theirs);
      put(holder, key, copy(at(from.holder, from.key)));
    }
    return document;
  },
  version: (document, draw) => {
    if (isHolder(document) && !Array.isArray(document) && typeof document.apiVersion === 'string') {
      const group = document.apiVersion.replace(/\/?[^/]*$/, '');
      put(document, 'apiVersion', draw.one([...VERSIONS.map((v) => `${group}/${v}`), draw.one(VERSIONS)]));
    }
    return document;
  },
  list: (document, draw) => {
    if (!isHolder(document) || Array.isArray(document)) return document;
    const kind = draw.one(['List', `${document.kind}List`, 'ItemsList']);
    const items = draw.one<Tree>([
      [document],
      [document, document],
      [document, null, 'x', []],
      [],
      null,
      {},
      [[document]],
    ]);
    return { apiVersion: draw.one(['v1', document.apiVersion]), kind, items };
  },
  many: onPlace((holder, key) => {
    const value = at(holder, key);
    if (!Array.isArray(value) || value.length === 0) return;
    const size = Math.max(1, JSON.stringify(value[0] ?? null).length);
    const n = Math.min(300, Math.ceil(HUGE / size));
    put(
      holder,
      key,
      Array.from({ length: n }, (_, i) => copy(value[i % value.length])),
    );
  }),
  deep: onPlace((holder, key, draw) => {
    let value = at(holder, key);
    const wrap = draw.below(2) === 0;
    for (let i = 0; i < 60; i++) value = wrap ? [value] : { [String(key)]: value };
    put(holder, key, value);
  }),
};

/**
 * Damaged policies: what users' files look like when something is wrong with them, or merely rare. Everything is a function of
 * the text and of the numbers that are drawn, so that a seed makes a text again.
 */

import { parseAllDocuments, stringify } from 'yaml';
import { TEXT_DAMAGES } from './damaged-text.js';
import { copy, DAMAGES, isHolder, type Tree } from './damaged-values.js';
import { Draw } from './draw.js';

/** What is drawn from, for those who damage. */
export { Draw };

/** The documents of a text; none if it cannot be read. */
export function parse(text: string): Tree[] {
  try {
    const docs = parseAllDocuments(text, { uniqueKeys: false, prettyErrors: false });
    if ('empty' in docs || docs.some((d) => d.errors.length > 0)) return [];
    return docs.map((d) => d.toJS()).filter(isHolder);
  } catch {
    return [];
  }
}

const NAMES = Object.keys(DAMAGES);

const TEXT_NAMES = Object.keys(TEXT_DAMAGES);

/**
 * A text with damage.
 * @param donor another text, of which parts are taken
 * @param meaningful true: only of what it says, not of how it is written
 * @returns the text, and the names of what was done to it
 */
export function damage(text: string, donor: string, draw: Draw, meaningful = false): { text: string; how: string[] } {
  const how: string[] = [];
  let out = text;
  const docs = parse(text);
  if (docs.length > 0 && (meaningful || draw.below(4) > 0)) {
    const other = parse(donor)[0] ?? {};
    const i = draw.below(docs.length);
    for (let n = 1 + draw.below(3); n > 0; n--) {
      const name = draw.one(NAMES);
      how.push(name);
      docs[i] = DAMAGES[name]!(copy(docs[i]), draw, other);
    }
    out = docs.map((doc) => stringify(doc)).join('---\n');
  }
  if (!meaningful && (how.length === 0 || draw.below(4) === 0)) {
    const name = draw.one(TEXT_NAMES);
    how.push(name);
    out = TEXT_DAMAGES[name]!(out, draw);
  }
  return { text: out, how };
}

/** Places that follow from names, so that they stay when other names come and go. */

/** FNV-1a over UTF-16 units, mixed (the low bits of names that differ in their last letter only are alike). */
export function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * The place of `name` among `room` places: the one that its hash says, or the next one that is free. Only of two names
 * with the same place one moves. Undefined if nothing is free.
 */
export function stablePlace<T>(name: string, room: number, at: (index: number) => T, taken: Set<T>): T | undefined {
  const start = hash(name) % room;
  for (let step = 0; step < room; step++) {
    const place = at((start + step) % room);
    if (taken.has(place)) continue;
    taken.add(place);
    return place;
  }
  return undefined;
}

/** Watches policy files and folders. */
import { type FSWatcher, lstatSync, statSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';

const SETTLE_MS = 100;

/**
 * Calls `changed` after something in `paths` has changed and has been quiet for a moment. Folders of files are watched, not
 * the files: editors replace files. What else is in such a folder does not count, unless the file is a link (config maps
 * replace what their links lead to).
 * @returns stops watching
 */
export function watchFiles(paths: readonly string[], changed: () => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  const trigger = (): void => {
    clearTimeout(timer);
    timer = setTimeout(changed, SETTLE_MS);
  };
  const watchers: FSWatcher[] = [];
  for (const path of new Set(paths.filter((p) => p !== '-'))) {
    const { folder, recursive, only } = placeOf(path);
    try {
      watchers.push(
        watch(folder, { recursive, persistent: false }, (_, name) => {
          if (only === undefined || name === null || name === only) trigger();
        }),
      );
    } catch {
      // Not watchable: a reload by SIGHUP still works.
    }
  }
  for (const watcher of watchers) watcher.on('error', () => undefined);
  return () => {
    clearTimeout(timer);
    for (const watcher of watchers) watcher.close();
  };
}

/** What to watch for a path; `only`: the one name in it that counts. */
function placeOf(path: string): { folder: string; recursive: boolean; only?: string } {
  const place = { folder: dirname(path), recursive: false };
  try {
    if (statSync(path).isDirectory()) return { folder: path, recursive: true };
    if (lstatSync(path).isSymbolicLink()) return place;
  } catch {
    // vanished: its folder tells when it comes back
  }
  return { ...place, only: basename(path) };
}

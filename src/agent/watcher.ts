/** Watches policy files and folders. */
import { type FSWatcher, statSync, watch } from 'node:fs';
import { dirname } from 'node:path';

const SETTLE_MS = 100;

/**
 * Calls `changed` after something in or around `paths` has changed and has been quiet for a moment. Folders of files
 * are watched, not the files: editors and config maps replace files.
 * @returns stops watching
 */
export function watchFiles(paths: readonly string[], changed: () => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  const trigger = (): void => {
    clearTimeout(timer);
    timer = setTimeout(changed, SETTLE_MS);
  };
  const watchers: FSWatcher[] = [];
  for (const path of new Set(paths.filter((p) => p !== '-').map(folderOf))) {
    try {
      watchers.push(watch(path.folder, { recursive: path.recursive, persistent: false }, trigger));
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

function folderOf(path: string): { folder: string; recursive: boolean } {
  try {
    if (statSync(path).isDirectory()) return { folder: path, recursive: true };
  } catch {
    // vanished: its folder tells when it comes back
  }
  return { folder: dirname(path), recursive: false };
}

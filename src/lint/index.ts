/** Warnings that a good linter would give, from the resources alone; each is certain (see codes.ts). */
import type { Diagnostic } from '../policy/diagnostics.js';
import type { Resources } from '../policy/resources.js';
import { lintAccess } from './access.js';
import { Findings } from './report.js';
import { lintRoutes } from './routes.js';

/**
 * The warnings about resources without errors, in the order of the files. What the translation has already reported at
 * the same place under the same code is left out.
 */
export function lint(resources: Resources): Diagnostic[] {
  const findings = new Findings();
  lintRoutes(findings, resources);
  lintAccess(findings, resources);
  const key = (d: Diagnostic) => `${d.code} ${d.position?.file}:${d.position?.line}`;
  const known = new Set(resources.diagnostics.map(key));
  const files = [...new Set(resources.rules.map((r) => r.position.file))];
  const place = (d: Diagnostic) => files.indexOf(d.position?.file ?? '');
  return findings
    .diagnostics()
    .filter((d) => !known.has(key(d)))
    .sort(
      (a, b) =>
        place(a) - place(b) ||
        (a.position?.line ?? 0) - (b.position?.line ?? 0) ||
        (a.position?.column ?? 0) - (b.position?.column ?? 0),
    );
}

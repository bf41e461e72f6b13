/** Writes docs/reasons.md. Run it after changing reasons.ts: `npx tsx src/plan/reasons-doc.ts`. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { reasonsMarkdown } from './reasons.js';

mkdirSync('docs', { recursive: true });
writeFileSync('docs/reasons.md', reasonsMarkdown());

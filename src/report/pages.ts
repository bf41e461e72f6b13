/** The documentation of each reason (docs/reasons/CODE.md), with what `check` says about its example. */
import { Readable } from 'node:stream';
import { REASONS } from '../plan/reasons.js';
import { type CheckOutput, check } from './check.js';
import type { Example } from './guide.js';
import { exampleText, GUIDES, reasonText } from './guides.js';

/** The report about an example. */
export async function checkExample(example: Example, which: 'before' | 'after'): Promise<CheckOutput> {
  return (await check(['-'], { stdin: Readable.from([exampleText(example, which)]) })).output;
}

const WHERE: Readonly<Record<Example['place'], string>> = {
  listener: 'In a listener of an Envoy configuration:',
  'filter chain': 'In the filter chain of a listener of an Envoy configuration:',
  'connection manager': 'In the HTTP connection manager of an Envoy configuration:',
  filters: 'Among the http_filters of an Envoy configuration, before the router:',
  'route configuration': 'In the route configuration of an Envoy configuration:',
  'virtual host': 'In a virtual host of an Envoy configuration:',
  route: 'As a route of an Envoy configuration:',
  cluster: 'In the cluster of an Envoy configuration:',
  bootstrap: 'In the bootstrap of an Envoy configuration:',
  documents: 'With a Service `reviews`:',
};

function snippet(text: string): string[] {
  const nothing = text.trim() === '{}' || text.trim() === '[]';
  return ['```yaml', nothing ? '# nothing of the kind' : text, '```', ''];
}

/** The page of one reason. The verdicts and messages in it are those of a real run. */
export async function reasonPage(code: string): Promise<string> {
  const { title, explanation } = reasonText(code);
  const guide = GUIDES[code];
  const parts = [`# \`${code}\`: ${title}`, '', explanation, ''];
  if (guide) parts.push('## What would make it offloadable', '', guide.fix, '');
  if (guide?.without) parts.push(`There is no example: ${guide.without}`, '');
  const example = guide?.example;
  if (example) {
    const before = await checkExample(example, 'before');
    const after = await checkExample(example, 'after');
    const message = before.results.flatMap((r) => r.reasons).find((r) => r.code === code)?.message ?? '';
    parts.push('## Before', '', WHERE[example.place], '', ...snippet(example.before));
    const around = Object.entries<string>('around' in example ? (example.around ?? {}) : {}).filter(
      ([, text]) => text !== '{}',
    );
    for (const [place, text] of around) parts.push(`together with (${place}):`, '', ...snippet(text));
    parts.push('`sidestep check` says:', '', '```', `${code}: ${message}`, '```', '');
    const verdict = `${after.kernel} of ${after.rules} in the kernel`;
    parts.push('## After', '', ...snippet(example.after), `\`sidestep check\` says: ${verdict}.`, '');
  }
  parts.push('[All reasons](../reasons.md)', '');
  return parts.join('\n');
}

/** All pages by the name of their file. */
export async function reasonPages(): Promise<Map<string, string>> {
  const pages = new Map<string, string>();
  for (const code of Object.keys(REASONS)) pages.set(`${code}.md`, await reasonPage(code));
  return pages;
}

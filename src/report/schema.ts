/** The JSON that `check` and `explain` print, as schemas. docs/*.schema.json are made from them (`npm run generate`). */
import { z } from 'zod';

const count = (text: string) => z.int().min(0).describe(text);

const tally = {
  rules: count('rules of this group'),
  kernel: count('enforced in the kernel'),
  proxy: count('left to the proxy'),
  invalid: count('in files with errors'),
};

const finding = z.strictObject({
  file: z.string().describe("the file as it was named on the command line, <stdin> for -; '' if none is to blame"),
  line: count('from 1; 0 if unknown'),
  column: count('from 1; 0 if unknown'),
  code: z.string().describe('stable; warnings: see docs/lint.md'),
  field: z.string().describe("path of the field; '' if none is to blame"),
  message: z.string(),
  hint: z.string().optional().describe('what the user can do'),
});

const reason = z.strictObject({
  code: z.string().describe('from the closed list of docs/reasons.md'),
  message: z.string(),
  field: z.string().describe('path of the field in the document, or in the Envoy resource that stands for it'),
  line: count('line in `file` of what is to blame; 0 if unknown'),
  file: z.string().describe("the rule's file, or another one that is to blame"),
  clients: z
    .strictObject({ namespace: z.string(), labels: z.record(z.string(), z.string()) })
    .optional()
    .describe('it is so for the clients that were judged, and not for these'),
});

const result = z.strictObject({
  file: z.string(),
  line: count('where the rule begins, from 1'),
  column: count('where the rule begins, from 1'),
  kind: z.string().describe('VirtualService, AuthorizationPolicy, Route, RBAC ...'),
  name: z.string().describe('name of the document, virtual host or filter'),
  rule: z.string().describe('the rule inside it, e.g. http[0]'),
  verdict: z.enum(['kernel', 'proxy', 'invalid']),
  waitsFor: z.enum(['http2', 'tls', 'http2+tls']).optional().describe('the only thing that keeps it from the kernel'),
  reasons: z.array(reason).describe('empty unless the verdict is proxy'),
});

/** `check --json`. */
export const checkSchema = z
  .strictObject({
    rules: count('rules in all files'),
    kernel: count('rules that the kernel enforces'),
    proxy: count('rules that are left to the proxy'),
    invalid: count('rules in files with errors'),
    http2: count('rules left to the proxy that would be in the kernel but for HTTP/2'),
    tls: count('rules left to the proxy that would be in the kernel but for TLS'),
    http2AndTls: count('rules left to the proxy that would be in the kernel but for HTTP/2 and TLS together'),
    documents: count('documents read'),
    errors: z.array(finding).describe('with any error nothing would be loaded'),
    warnings: z.array(finding).describe('they change no verdict'),
    results: z.array(result).describe('every rule, in the order of the files'),
    totals: z.strictObject({
      share: z.number().min(0).max(100).describe('percent of the rules that the kernel enforces'),
      byKind: z.array(z.strictObject({ kind: z.string(), ...tally })),
      byFile: z.array(z.strictObject({ file: z.string(), ...tally })),
      byReason: z.array(
        z.strictObject({
          code: z.string(),
          title: z.string(),
          rules: count('rules with this reason; a rule may have several'),
          fix: z.string().describe('what would make them offloadable'),
          page: z.string().describe('the documentation, in the repository and in the package'),
        }),
      ),
    }),
  })
  .meta({ title: 'sidestep check --json' });

const place = {
  file: z.string().describe("'' if it is not known"),
  line: count('from 1; 0 if unknown'),
};

const failed = z
  .array(
    z.strictObject({
      field: z.string().describe('path, method, host, header NAME, query parameter NAME, source ip; any of; not'),
      expected: z.string().describe('in words'),
      actual: z.string().nullable().describe('null: the request has no such thing, or several fields are involved'),
    }),
  )
  .describe('every part of the condition that does not hold');

const pairs = z.array(z.tuple([z.string(), z.string()]));

const clusters = z.array(
  z.strictObject({
    cluster: z.string(),
    weight: z.number(),
    share: z.number().describe('percent of the requests, or connections, of this rule'),
    lb: z.string(),
    endpoints: z.array(z.strictObject({ address: z.string(), port: z.int(), weight: z.number() })),
  }),
);

const connected = z
  .strictObject({ kind: z.literal('connect'), clusters })
  .describe('the listener is about connections: where they lead, whatever is requested');

const forwarded = z.strictObject({
  kind: z.literal('forward'),
  target: z.string().describe('path and query as the server sees them'),
  headers: pairs.describe('as the server sees them, names in lower case'),
  edits: z.array(z.string()).describe('in words, in order'),
  clusters,
  timeoutMs: count('0: none'),
  retries: count('tries after the first one, made by the proxy'),
  settings: z
    .array(z.strictObject({ name: z.string(), text: z.string() }))
    .describe('timeouts, retries and how an endpoint is chosen, in words'),
});

const replied = z.strictObject({ kind: z.literal('reply'), status: z.int(), headers: pairs, body: z.string() });

/** `explain --json`. */
export const explainSchema = z
  .strictObject({
    request: z.strictObject({
      method: z.string(),
      target: z.string(),
      version: z.string(),
      headers: pairs,
      from: z.string().describe('address of the client'),
      bodyLength: count('bytes'),
    }),
    listener: z.string(),
    virtualHost: z.string().describe("'' if none matches"),
    verdict: z.enum(['kernel', 'proxy']),
    why: z.string(),
    reasons: z
      .array(z.strictObject({ code: z.string(), message: z.string(), field: z.string(), ...place }))
      .describe('for the proxy: what in the files is to blame; codes as in docs/reasons.md'),
    form: z.array(z.string()).describe('properties of the request for which the proxy decides whatever the rules say'),
    considered: z
      .array(
        z.strictObject({
          name: z.string(),
          outcome: z.enum(['matched', 'not matched', 'cannot be computed']),
          failed,
          ...place,
        }),
      )
      .describe('the routes of the virtual host in order, up to the one that decides'),
    winner: z.strictObject({ name: z.string(), ...place }).nullable(),
    access: z
      .array(
        z.strictObject({
          action: z.enum(['allow', 'deny']),
          outcome: z.enum(['passed', 'denied']),
          policies: z.array(
            z.strictObject({ name: z.string(), outcome: z.enum(['matched', 'not matched']), failed, ...place }),
          ),
        }),
      )
      .describe('RBAC filters in order; the first that denies decides'),
    result: z.discriminatedUnion('kind', [forwarded, replied, connected]).nullable().describe('null for the proxy'),
  })
  .meta({ title: 'sidestep explain --json' });

/** A schema as a JSON Schema document (draft 2020-12). */
export function jsonSchema(schema: z.ZodType): string {
  return `${JSON.stringify(z.toJSONSchema(schema), null, 2)}\n`;
}

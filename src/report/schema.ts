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
});

const result = z.strictObject({
  file: z.string(),
  line: count('where the rule begins, from 1'),
  column: count('where the rule begins, from 1'),
  kind: z.string().describe('VirtualService, AuthorizationPolicy, Route, RBAC ...'),
  name: z.string().describe('name of the document, virtual host or filter'),
  rule: z.string().describe('the rule inside it, e.g. http[0]'),
  verdict: z.enum(['kernel', 'proxy', 'invalid']),
  reasons: z.array(reason).describe('empty unless the verdict is proxy'),
});

/** `check --json`. */
export const checkSchema = z
  .strictObject({
    rules: count('rules in all files'),
    kernel: count('rules that the kernel enforces'),
    proxy: count('rules that are left to the proxy'),
    invalid: count('rules in files with errors'),
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

/** A schema as a JSON Schema document (draft 2020-12). */
export function jsonSchema(schema: z.ZodType): string {
  return `${JSON.stringify(z.toJSONSchema(schema), null, 2)}\n`;
}

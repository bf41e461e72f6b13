/** The report in all forms, of a mixed input and of the shop; UPDATE_GOLDEN=1 writes what is compared with. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { toJsonText } from '../../src/cli/input.js';
import { check } from '../../src/report/check.js';
import { checkHtml } from '../../src/report/html.js';
import { colours } from '../../src/report/paint.js';
import { checkSchema, jsonSchema } from '../../src/report/schema.js';
import { checkText, findingText } from '../../src/report/text.js';

function golden(name: string, text: string): void {
  const file = `test/golden/check/${name}`;
  if (process.env.UPDATE_GOLDEN) writeFileSync(file, text);
  assert.ok(existsSync(file), `${file} is missing: run with UPDATE_GOLDEN=1`);
  assert.equal(text, readFileSync(file, 'utf8'), file);
}

/** The page without its style and script, which are tested in a browser. */
function body(html: string): string {
  return html
    .replace(/<style>[\s\S]*?<\/style>/, '<style></style>')
    .replace(/<script>[\s\S]*?<\/script>/, '<script></script>')
    .replace(/'sha256-[^']*'/, "'sha256-'");
}

const INPUTS = { mixed: 'test/golden/check/mixed.in.yaml', shop: 'examples/shop/policies' };

describe('check: golden reports', () => {
  for (const [name, input] of Object.entries(INPUTS)) {
    it(`${name}: text, JSON and HTML`, async () => {
      const { output, sources } = await check([input]);
      const findings = [
        ...output.errors.map((f) => findingText('error', f)),
        ...output.warnings.map((f) => findingText('warning', f)),
      ];
      golden(`${name}.out.txt`, `${findings.map((line) => `${line}\n`).join('')}${checkText(output)}`);
      golden(`${name}.out.json`, `${toJsonText(output)}\n`);
      golden(`${name}.out.html`, body(checkHtml(output, sources)));
    });

    it(`${name}: the JSON is as its schema says`, async () => {
      const { output } = await check([input]);
      checkSchema.parse(JSON.parse(toJsonText(output)));
    });
  }

  it('invalid input: as the schema says, and the counts add up', async () => {
    const { output } = await check(['examples/shop/policies', 'test/golden/istio/invalid.in.yaml', 'no/such/file']);
    checkSchema.parse(JSON.parse(toJsonText(output)));
    assert.ok(output.invalid > 0 && output.errors.some((e) => e.file === 'no/such/file'));
    assert.equal(output.kernel + output.proxy + output.invalid, output.rules);
    assert.match(checkText(output), /errors: nothing would be loaded/);
  });

  it('the schema refuses what is not a report', async () => {
    const { output } = await check([INPUTS.shop]);
    for (const broken of [
      { ...output, rules: -1 },
      { ...output, results: [{ ...output.results[0], verdict: 'maybe' }] },
      { ...output, more: 1 },
    ])
      assert.equal(checkSchema.safeParse(broken).success, false);
    assert.equal(readFileSync('docs/check-report.schema.json', 'utf8'), jsonSchema(checkSchema));
  });

  it('the contract: names and types that programs rely on', async () => {
    const { output } = await check([INPUTS.mixed]);
    const { rules, kernel, proxy, documents, errors, results } = JSON.parse(toJsonText(output));
    assert.deepEqual([typeof rules, typeof kernel, typeof proxy, typeof documents], Array(4).fill('number'));
    assert.ok(Array.isArray(errors));
    for (const r of results) {
      for (const key of ['file', 'kind', 'name', 'rule']) assert.equal(typeof r[key], 'string', key);
      assert.ok(Number.isInteger(r.line) && ['kernel', 'proxy', 'invalid'].includes(r.verdict));
      for (const { code, message, field, line } of r.reasons)
        assert.deepEqual(
          [typeof code, typeof message, typeof field, typeof line],
          ['string', 'string', 'string', 'number'],
        );
    }
  });

  it('1,000 rules: the text stays short, and --verbose shows all', async () => {
    const { output } = await check([INPUTS.mixed]);
    const proxied = output.results.find((r) => r.verdict === 'proxy')!;
    const results = Array.from({ length: 1000 }, (_, i) => ({ ...proxied, file: `f${i % 50}.yaml`, line: i + 1 }));
    const many = { ...output, results, rules: 1000, kernel: 0, proxy: 1000 };
    assert.ok(checkText(many).split('\n').length < 200);
    assert.ok(checkText(many, { verbose: true }).split('\n').length > 1000);
  });

  it('colours add nothing but colours', async () => {
    const { output } = await check([INPUTS.mixed]);
    const coloured = checkText(output, { paint: colours });
    assert.notEqual(coloured, checkText(output));
    // biome-ignore lint/suspicious/noControlCharactersInRegex: SGR sequences
    assert.equal(coloured.replace(/\u001b\[\d+m/g, ''), checkText(output));
  });
});

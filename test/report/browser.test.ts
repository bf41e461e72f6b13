/** The page in a real browser: Debian's chromium, driven by playwright-core. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { type BrowserContext, chromium, type Page } from 'playwright-core';
import { check } from '../../src/report/check.js';
import { checkHtml } from '../../src/report/html.js';

const CHROMIUM = process.env.SIDESTEP_CHROMIUM ?? '/usr/bin/chromium';
const ARGUMENTS = [
  ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
];
const skip = existsSync(CHROMIUM) ? false : `${CHROMIUM} is missing (script/bootstrap --browser installs it)`;

describe('the HTML report in a browser', { skip }, () => {
  let dir: string;
  let context: BrowserContext;
  let page: Page;
  const problems: string[] = [];
  const requests: string[] = [];

  before(async () => {
    dir = mkdtempSync(path.join(tmpdir(), 'sidestep-browser-'));
    const { output, sources } = await check(['test/golden/check/mixed.in.yaml', 'examples/shop/policies']);
    writeFileSync(path.join(dir, 'report.html'), checkHtml(output, sources));
    context = await chromium.launchPersistentContext(path.join(dir, 'profile'), {
      ...{ executablePath: CHROMIUM, headless: true, args: ARGUMENTS, viewport: { width: 1280, height: 900 } },
    });
    page = await context.newPage();
    page.on('console', (message) => problems.push(message.text()));
    page.on('pageerror', (error) => problems.push(error.message));
    page.on('request', (request) => requests.push(request.url()));
    await page.goto(pathToFileURL(path.join(dir, 'report.html')).href);
  });
  after(async () => {
    await context?.close();
    rmSync(dir, { recursive: true, force: true });
  });

  const shown = () => page.locator('#rules tbody tr:visible').count();

  it('shows the numbers, a chart for kinds and one for reasons', async () => {
    assert.match((await page.locator('h1').textContent()) ?? '', /^\d+\.\d% of the rules are enforced in the kernel$/);
    assert.equal(await page.locator('svg.chart').count(), 2);
    const bar = await page.locator('svg.share rect.kernel').first().boundingBox();
    assert.ok((bar?.width ?? 0) > 300);
  });

  it('filters by text, verdict, kind, file and reason', async () => {
    const all = await shown();
    assert.ok(all > 15);
    await page.fill('#search', 'route all chosen');
    assert.equal(await shown(), 1);
    await page.fill('#search', '');
    await page.uncheck('.filters input[value=kernel]');
    const problemRules = await shown();
    assert.ok(problemRules > 0 && problemRules < all);
    await page.check('.filters input[value=kernel]');
    await page.selectOption('#kind', 'AuthorizationPolicy');
    assert.equal(await shown(), 3);
    await page.selectOption('#kind', '');
    await page.click('button[data-set=reason][data-value=dry-run]');
    assert.equal(await shown(), 1);
    assert.match((await page.locator('#shown').textContent()) ?? '', /^1 of \d+ rules$/);
    await page.selectOption('#reason', '');
    assert.equal(await shown(), all);
  });

  it('a rule leads to its line, which has the colour of its verdict', async () => {
    const link = page.locator('#rules tr[data-verdict=proxy] .where a').first();
    const target = (await link.getAttribute('href'))!;
    await page.locator('details.file').evaluateAll((all) => {
      for (const d of all) (d as unknown as { open: boolean }).open = false;
    });
    await link.click();
    const line = page.locator(target);
    assert.ok(await line.isVisible(), 'the file is unfolded');
    assert.match((await line.getAttribute('class')) ?? '', /\bproxy\b/);
    const background = (selector: string) =>
      page
        .locator(selector)
        .first()
        .evaluate((e) => {
          const view = globalThis as unknown as { getComputedStyle(e: unknown): { backgroundColor: string } };
          return view.getComputedStyle(e).backgroundColor;
        });
    assert.notEqual(await background('.l.proxy'), await background('.l.kernel'));
    assert.ok((await page.locator('.note.proxy').count()) > 2);
    assert.ok((await page.locator('.note.warning').count()) > 0);
  });

  it('light and dark, wide and narrow: text can be read and nothing overflows', async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const width of [1280, 400]) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 900 });
        const [overflow, contrast] = (await page.evaluate(CONTRAST)) as [number, number];
        assert.ok(overflow <= 0, `${colorScheme} ${width}: ${overflow} pixels too wide`);
        assert.ok(contrast >= 4.5, `${colorScheme}: a contrast of ${contrast} (WCAG 2.2, 1.4.3)`);
      }
    }
  });

  it('loads nothing, and has no errors', () => {
    assert.deepEqual(problems, []);
    assert.equal(requests.length, 1);
  });
});

/** Runs in the page: how much wider than the window it is, and the least contrast of badges, notes and quiet text. */
const CONTRAST = `(() => {
  const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => { const [r, g, b] = rgb(c).map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (rgb(c)[3] !== 0) return c; } return 'rgb(255,255,255)'; };
  let least = 21;
  for (const e of document.querySelectorAll('.badge, .note .code, .quiet, .why, .l code, .l code b, .l code i, .m, td button, h1, .fix')) {
    if (!e.textContent.trim()) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
    least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return [document.documentElement.scrollWidth - innerWidth, least];
})()`;

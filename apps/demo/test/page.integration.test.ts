import { get } from 'node:http';
import { launchBrowser } from '@countersign/testkit/browser';
import type { Browser, Page } from 'playwright-core';
import { request } from 'undici';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type DemoPage, type Sight, servePage } from '../src/page.ts';

let browser: Browser;
const pages: DemoPage[] = [];

beforeAll(async () => {
  browser = await launchBrowser();
}, 120_000);
afterEach(async () => {
  for (const page of pages.splice(0)) await page.close();
});
afterAll(() => browser?.close());

async function serve(order = async (): Promise<string> => 'ordered'): Promise<DemoPage> {
  const page = await servePage(order);
  pages.push(page);
  return page;
}

/** The page in a browser, and what the browser had to complain of. */
async function open({ url }: DemoPage): Promise<{ view: Page; complaints: string[] }> {
  const view = await browser.newPage();
  const complaints: string[] = [];
  view.on('console', (message) => complaints.push(message.text()));
  view.on('pageerror', (error) => complaints.push(error.message));
  await view.goto(url);
  await expect.poll(() => view.textContent('#connection'), { timeout: 10_000 }).toBe('live');
  return { view, complaints };
}

const textOf = (view: Page, selector: string) => ({
  eventually: async (text: string): Promise<void> => {
    await expect.poll(() => view.textContent(selector), { timeout: 10_000 }).toContain(text);
  },
});

const happening = (details: Readonly<Record<string, string>>): Sight => ({
  happening: { service: 'payments', channel: 'countersign:jwt:verified', atMs: 0, details },
});
const state = (is: string): Sight => ({
  service: { service: 'payments', pid: 7, url: 'http://127.0.0.1:1', state: is },
});
const expectation = (held: boolean): Sight => ({
  expectation: { step: 'a step', what: 'payments made', expected: 1, actual: held ? 1 : 2, held },
});

describe('in a browser', () => {
  test('shows what came before it was opened and what comes after, and what ended', async () => {
    const page = await serve();
    for (const sight of [state('running'), { step: 'a step' }, expectation(true)]) page.show(sight);
    const { view, complaints } = await open(page);
    await textOf(view, '#services').eventually('running');
    await textOf(view, '#steps').eventually('✓ payments made: 1');
    page.show(happening({ issuer: 'https://issuer.example' }));
    page.show(expectation(false));
    page.show(state('ended (SIGKILL)'));
    await textOf(view, '#services').eventually('ended (SIGKILL)');
    await textOf(view, '#happenings').eventually('issuer https://issuer.example');
    await textOf(view, '#steps').eventually('✗ payments made: 2, expected 1');
    expect(await view.locator('#services tr').count()).toBe(1);
    expect(complaints).toEqual([]);
    await view.close();
  });

  test('takes nothing that others wrote for markup', async () => {
    const page = await serve();
    const { view, complaints } = await open(page);
    const markup = '<img src=x onerror="document.title=1"><script>document.title=1</script>';
    page.show({ step: markup });
    page.show(happening({ [markup]: markup }));
    await textOf(view, '#happenings').eventually(markup);
    expect(await view.locator('#steps h3').textContent()).toBe(markup);
    expect(await view.locator('img, tbody script').count()).toBe(0);
    expect(complaints).toEqual([]);
    await view.close();
  });

  test('orders again, and says what came of it', async () => {
    const page = await serve(async () => 'checkout answered 200');
    const { view } = await open(page);
    await view.click('#order');
    await textOf(view, '#answer').eventually('checkout answered 200');
    await view.close();
  });

  test('says when the demo has ended', async () => {
    const page = await serve();
    const { view } = await open(page);
    await page.close();
    await textOf(view, '#connection').eventually('has ended');
    pages.splice(0);
    await view.close();
  });
});

test('remembers the last 500 happenings, and everything that was expected', async () => {
  const page = await serve();
  page.show(expectation(true));
  for (let count = 1; count <= 501; count += 1) page.show(happening({ count: String(count) }));
  const { body } = await request(`${page.url}sights`);
  let text = '';
  for await (const piece of body) {
    text += String(piece);
    if (text.includes('"501"')) break;
  }
  expect(text.match(/^data: /gm)).toHaveLength(501);
  expect(text).not.toContain('"count":"1"');
});

describe('is nobody else’s', () => {
  test('an order from another origin is refused, and nothing is ordered', async () => {
    let orders = 0;
    const page = await serve(async () => {
      orders += 1;
      return 'ordered';
    });
    const post = (origin?: string) =>
      request(`${page.url}orders`, {
        method: 'POST',
        ...(origin === undefined ? {} : { headers: { origin } }),
      });
    expect((await post('https://evil.example')).statusCode).toBe(403);
    expect((await post('null')).statusCode).toBe(403);
    expect(orders).toBe(0);
    expect((await post(new URL(page.url).origin)).statusCode).toBe(200);
    expect(orders).toBe(1);
  });

  test('a name that somebody points at this machine is refused', async () => {
    const { url } = await serve();
    expect(await statusOf(url, '/sights', { host: 'rebound.example' })).toBe(421);
  });

  test.each(['/nothing', '/../main.ts', '/page/index.html', '//page.js'])(
    'there is no %s',
    async (path) => {
      const { url } = await serve();
      expect(await statusOf(url, path)).toBe(404);
    },
  );
});

/** Of a path as it is written, which `fetch` would tidy up. */
function statusOf(url: string, path: string, headers = {}): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    get(url, { path, headers }, (response) => {
      response.destroy();
      resolve(response.statusCode);
    }).on('error', reject);
  });
}

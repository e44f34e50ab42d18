import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chain, type Guard } from '@countersign/guard';
import { node } from '@countersign/guard/node';
import { launchBrowser } from '@countersign/testkit/browser';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { type CorsGuardOptions, cors, securityHeaders } from '../src/guard.ts';
import type { SecurityHeadersOptions } from '../src/index.ts';

/** What a browser really does with what we send. */
let browser: Browser;
const closing: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  browser = await launchBrowser();
}, 120_000);

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  vi.restoreAllMocks();
});

afterAll(() => browser?.close());

/** Two hosts that are one machine, and to a browser two sites. */
async function serve(host: 'localhost' | '127.0.0.1', listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return `http://${host}:${(server.address() as AddressInfo).port}`;
}

async function openPage(url: string): Promise<Page> {
  const context = await browser.newContext();
  closing.push(() => context.close());
  const page = await context.newPage();
  await page.goto(url);
  return page;
}

const emptyPage: RequestListener = (_req, res) =>
  void res.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>a page');

describe('CORS', () => {
  interface Api {
    readonly origin: string;
    /** `METHOD` of what reached the handler. */
    readonly handled: string[];
    readonly preflights: () => number;
  }

  async function serveApi(policy: CorsGuardOptions): Promise<Api> {
    const handled: string[] = [];
    let preflights = 0;
    const counting: Guard<undefined> = ({ method }) => {
      if (method === 'OPTIONS') preflights += 1;
      return { pass: true, context: undefined };
    };
    const guards = chain()
      .use('count', counting)
      .use('headers', securityHeaders({ profile: 'api' }))
      .use('cors', cors(policy));
    const listener = node(guards, (req, res) => {
      handled.push(req.method ?? '');
      if (req.url === '/throw') throw new Error('secret reason');
      const { cookie = 'none' } = req.headers;
      res.writeHead(200, { 'x-shown': 'yes', 'x-hidden': 'yes', 'set-cookie': 'a=1' });
      res.end(`cookie ${cookie}`);
    });
    return { origin: await serve('127.0.0.1', listener), handled, preflights: () => preflights };
  }

  /** What a script of the page gets to see. */
  function fetchFrom(page: Page, url: string, init: RequestInit = {}): Promise<unknown> {
    return page.evaluate(
      async ([target, options]) => {
        try {
          const response = await fetch(target, options);
          const shown = ['x-shown', 'x-hidden'].filter((name) => response.headers.has(name));
          return { status: response.status, text: await response.text(), shown };
        } catch (error) {
          return String(error);
        }
      },
      [url, init] as const,
    );
  }

  async function pageAndApi(
    policyFor: (origin: string) => CorsGuardOptions,
  ): Promise<{ page: Page; api: Api }> {
    const origin = await serve('localhost', emptyPage);
    const api = await serveApi(policyFor(origin));
    return { page: await openPage(origin), api };
  }

  const blocked = 'TypeError: Failed to fetch';

  test('shows the answer, and the headers that are exposed, to an origin that is allowed', async () => {
    const { page, api } = await pageAndApi((origin) => ({
      origins: [origin],
      exposeHeaders: ['X-Shown'],
    }));
    expect(await fetchFrom(page, api.origin)).toEqual({
      status: 200,
      text: 'cookie none',
      shown: ['x-shown'],
    });
  });

  test('shows errors, too, to an origin that is allowed', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {});
    const { page, api } = await pageAndApi((origin) => ({ origins: [origin] }));
    expect(await fetchFrom(page, `${api.origin}/throw`)).toMatchObject({ status: 500 });
  });

  test('shows nothing to an origin that is not', async () => {
    const { page, api } = await pageAndApi(() => ({ origins: ['https://app.example.com'] }));
    expect(await fetchFrom(page, api.origin)).toBe(blocked);
  });

  test('shows nothing to a page without an origin, even when everybody else may see it', async () => {
    const { page, api } = await pageAndApi(() => ({ origins: '*' }));
    expect(await fetchFrom(page, api.origin)).toMatchObject({ status: 200 });
    const opaque = await openPage('data:text/html,<title>no origin</title>');
    expect(await fetchFrom(opaque, api.origin)).toBe(blocked);
  });

  test('shows an answer to a request with credentials only where these are allowed', async () => {
    const included: RequestInit = { credentials: 'include' };
    const without = await pageAndApi((origin) => ({ origins: [origin] }));
    expect(await fetchFrom(without.page, without.api.origin, included)).toBe(blocked);
    const along = await pageAndApi((origin) => ({ origins: [origin], credentials: true }));
    expect(await fetchFrom(along.page, along.api.origin, included)).toMatchObject({ status: 200 });
  });

  test('lets no method and no header pass that is not allowed: the handler never sees them', async () => {
    const { page, api } = await pageAndApi((origin) => ({
      origins: [origin],
      methods: ['PUT'],
      headers: ['X-One'],
    }));
    expect(await fetchFrom(page, api.origin, { method: 'DELETE' })).toBe(blocked);
    expect(await fetchFrom(page, api.origin, { method: 'PUT', headers: { 'x-two': '2' } })).toBe(
      blocked,
    );
    expect(api.handled).toEqual([]);
    expect(
      await fetchFrom(page, api.origin, { method: 'PUT', headers: { 'x-one': '1' } }),
    ).toMatchObject({ status: 200 });
    expect(api.handled).toEqual(['PUT']);
  });

  test('asks once for as long as a preflight may be remembered, and every time when it may not', async () => {
    const put: RequestInit = { method: 'PUT' };
    const remembered = await pageAndApi((origin) => ({ origins: [origin], methods: ['PUT'] }));
    await fetchFrom(remembered.page, remembered.api.origin, put);
    await fetchFrom(remembered.page, remembered.api.origin, put);
    expect(remembered.api.handled).toEqual(['PUT', 'PUT']);
    expect(remembered.api.preflights()).toBe(1);

    const forgotten = await pageAndApi((origin) => ({
      origins: [origin],
      methods: ['PUT'],
      maxAgeSeconds: 0,
    }));
    await fetchFrom(forgotten.page, forgotten.api.origin, put);
    await fetchFrom(forgotten.page, forgotten.api.origin, put);
    expect(forgotten.api.preflights()).toBe(2);
  });

  test('leaves pages of its own origin alone that send their origin, also when others are refused', async () => {
    const guards = cors({ origins: ['https://app.example.com'], refuse: true });
    const origin = await serve(
      'localhost',
      node(guards, (req, res) =>
        req.method === 'GET' ? emptyPage(req, res) : void res.end('posted'),
      ),
    );
    const page = await openPage(origin);
    const answer = await fetchFrom(page, origin, { method: 'POST', body: 'x' });
    expect(answer).toMatchObject({ status: 200, text: 'posted' });
  });
});

describe('the html profile', () => {
  const scripts: Readonly<Record<string, string>> = {
    '/own.js': `
      window.ran = ['own'];
      window.violations = [];
      addEventListener('securitypolicyviolation', (event) => window.violations.push(event.effectiveDirective));
      try { eval('window.ran.push("eval")') } catch {}
    `,
    '/sniffed.js': 'window.ran.push("sniffed")',
  };

  function pageWith(foreign: string): string {
    return `<!doctype html><title>a page</title>
      <script src="/own.js"></script>
      <script src="/sniffed.js"></script>
      <script>window.ran.push('inline')</script>
      <script src="${foreign}/foreign.js"></script>
      <img src="${foreign}/pixel" onerror="window.ran.push('attribute')">
      <p style="color: rgb(1, 2, 3)">text</p>`;
  }

  async function openHardened(
    overrides: Partial<SecurityHeadersOptions> | undefined,
  ): Promise<{ page: Page; ran: unknown; violations: readonly string[] }> {
    const foreign = await serve('127.0.0.1', (_req, res) =>
      res.writeHead(200, { 'content-type': 'text/javascript' }).end('window.ran.push("foreign")'),
    );
    const open: Guard<undefined> = () => ({ pass: true, context: undefined });
    const guard = overrides ? securityHeaders({ profile: 'html', ...overrides }) : open;
    const origin = await serve(
      'localhost',
      node(guard, (req, res) => {
        const script = scripts[req.url ?? ''];
        // A browser that guesses would run plain text as a script.
        const type = req.url === '/own.js' ? 'text/javascript' : 'text/plain';
        if (script === undefined) {
          res.writeHead(200, { 'content-type': 'text/html' }).end(pageWith(foreign));
        } else res.writeHead(200, { 'content-type': type }).end(script);
      }),
    );
    const page = await openPage(origin);
    const { ran, violations } = await page.evaluate<{ ran: string[]; violations?: string[] }>(
      '({ ran, violations })',
    );
    return { page, ran, violations: violations ?? [] };
  }

  test('runs scripts of its own origin, and none that are inline, foreign, evaluated or no scripts', async () => {
    const { page, ran, violations } = await openHardened({});
    expect(ran).toEqual(['own']);
    expect(violations).toEqual(
      expect.arrayContaining(['script-src-elem', 'style-src-attr', 'img-src']),
    );
    const colour = await page.evaluate("getComputedStyle(document.querySelector('p')).color");
    expect(colour).not.toBe('rgb(1, 2, 3)');
  });

  test('is what keeps them from running', async () => {
    const { ran } = await openHardened(undefined);
    expect(ran).toEqual(expect.arrayContaining(['own', 'eval', 'inline', 'foreign', 'sniffed']));
  });

  async function framed(overrides: Partial<SecurityHeadersOptions>): Promise<boolean> {
    const inner = await serve(
      '127.0.0.1',
      node(securityHeaders({ profile: 'html', ...overrides }), emptyPage),
    );
    const outer = await serve('localhost', (_req, res) =>
      res
        .writeHead(200, { 'content-type': 'text/html' })
        .end(`<!doctype html><title>a page</title><iframe src="${inner}/"></iframe>`),
    );
    const page = await openPage(outer);
    const [frame] = page.mainFrame().childFrames();
    return (await frame?.title()) === 'a page';
  }

  test('is framed nowhere, by frame-ancestors alone and by X-Frame-Options alone', async () => {
    expect(await framed({})).toBe(false);
    expect(await framed({ frameOptions: false })).toBe(false);
    expect(await framed({ contentSecurityPolicy: { 'frame-ancestors': false } })).toBe(false);
    expect(
      await framed({ frameOptions: false, contentSecurityPolicy: { 'frame-ancestors': false } }),
    ).toBe(true);
  });

  test('is embedded by no other site, unless that is allowed', async () => {
    const pixel = Buffer.from('R0lGODlhAQABAAAAACH5BAEAAAAALAAAAAABAAEAAAICTAEAOw==', 'base64');
    const loads = async (overrides: Partial<SecurityHeadersOptions>): Promise<boolean> => {
      const image = await serve(
        '127.0.0.1',
        node(securityHeaders({ profile: 'html', ...overrides }), (_req, res) => {
          res.writeHead(200, { 'content-type': 'image/gif' }).end(pixel);
        }),
      );
      const page = await openPage(await serve('localhost', emptyPage));
      return page.evaluate<boolean>(`new Promise((resolve) => {
        const element = new Image();
        element.onload = () => resolve(true);
        element.onerror = () => resolve(false);
        element.src = ${JSON.stringify(image)};
      })`);
    };
    expect(await loads({})).toBe(false);
    expect(await loads({ crossOriginResourcePolicy: 'cross-origin' })).toBe(true);
  });
});

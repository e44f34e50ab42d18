import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { createServer, request as open } from 'node:https';
import type { AddressInfo } from 'node:net';
import { chain, type Guard, problem, route } from '@countersign/guard';
import { node } from '@countersign/guard/node';
import { testCertificate } from '@countersign/testkit/certificate';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import * as z from 'zod';
import { cors, input, securityHeaders } from '../src/guard.ts';
import { securityHeaders as core, text } from '../src/index.ts';
import { hostileOrigins } from './hostile-origins.ts';
import { type Answer, ask, type Question, type RunningServer, servers } from './servers.ts';

const app = 'https://app.example.com';
const evil = 'https://evil.example';
const closing: (() => Promise<void>)[] = [];

beforeEach(() => {
  vi.spyOn(console, 'error').mockImplementation(() => {});
});

afterEach(async () => {
  for (const close of closing.splice(0)) await close();
  vi.restoreAllMocks();
});

const expected = core({ profile: 'api' }).insecure.map(
  ([name, value]) => [name.toLowerCase(), value] as const,
);

const asJson = { 'content-type': 'application/json' };

/** Every way to get an answer out of a server, by what it is. */
const answers: Readonly<Record<string, readonly [Question, status: number]>> = {
  'an answer': [{}, 200],
  'a missing route': [{ path: '/nowhere' }, 404],
  'a method that is not allowed': [{ method: 'POST', path: '/hello' }, 405],
  'a body that is too large': [
    { method: 'POST', path: '/json', headers: asJson, body: JSON.stringify('x'.repeat(2000)) },
    413,
  ],
  'malformed JSON': [{ method: 'POST', path: '/json', headers: asJson, body: '{"a":' }, 400],
  'input that the schema refuses': [
    { method: 'POST', path: '/checked', headers: asJson, body: '{"name":7}' },
    400,
  ],
  'an error that was thrown': [{ path: '/throw' }, 500],
  'a refusal of a guard': [{ headers: { 'x-banned': 'yes' } }, 403],
  'a refusal for want of credentials': [{ headers: { 'x-anonymous': 'yes' } }, 401],
  'a guard that throws': [{ headers: { 'x-broken': 'yes' } }, 500],
};

const checked = route('POST', '/checked', input(z.object({ name: text() })));

const others: Guard<undefined> = ({ headers }) => {
  if (headers.get('x-banned')) return problem({ status: 403 });
  if (headers.get('x-anonymous')) {
    return problem({ status: 401 }, [['www-authenticate', 'Bearer']]);
  }
  if (headers.get('x-broken')) throw new Error('secret reason');
  return { pass: true, context: undefined };
};

describe.each(Object.entries(servers))('%s', (adapter, start) => {
  async function serving(guard: Guard<unknown>, ran?: () => void): Promise<RunningServer> {
    const running = await start({
      guard,
      options: { trustedProxies: ['127.0.0.1'] },
      ...(ran && { ran }),
    });
    closing.push(() => running.close());
    return running;
  }

  function expectHardened({ lines }: Answer): void {
    for (const [name, value] of expected) {
      expect(lines.filter(([given]) => given === name)).toEqual([[name, value]]);
    }
    const names = lines.map(([name]) => name);
    expect(names).not.toContain('server');
    expect(names).not.toContain('x-powered-by');
    expect(names).not.toContain('strict-transport-security');
  }

  describe('the security headers', () => {
    const guard = chain()
      .use('headers', securityHeaders({ profile: 'api' }))
      .use('others', others)
      .use('checked', checked);

    test.each(Object.entries(answers))(
      'are on %s, once each, and what runs is not',
      async (_, of) => {
        const { port } = await serving(guard);
        const [question, status] = of;
        const answer = await ask(port, question);
        expect(answer.status).toBe(status);
        expectHardened(answer);
        expect(answer.body).not.toContain('secret');
      },
    );

    test('are on the answer to a preflight', async () => {
      const { port } = await serving(
        chain()
          .use('headers', securityHeaders({ profile: 'api' }))
          .use('cors', cors({ origins: [app] })),
      );
      const answer = await ask(port, {
        method: 'OPTIONS',
        headers: { origin: app, 'access-control-request-method': 'PUT' },
      });
      expect(answer.status).toBe(204);
      expectHardened(answer);
    });

    test('hold for TLS only where the connection is TLS, by a trusted proxy', async () => {
      const { port } = await serving(guard);
      const over = (proto: string) => ask(port, { headers: { 'x-forwarded-proto': proto } });
      expect((await over('https')).headers['strict-transport-security']).toBe(
        'max-age=31536000; includeSubDomains',
      );
      expect((await over('http')).headers).not.toHaveProperty('strict-transport-security');
    });

    test('are those of the route, where it has its own', async () => {
      const { port } = await serving(
        securityHeaders({ profile: 'api', routes: { '/nowhere/*': { profile: 'html' } } }),
      );
      const policyOf = async (path: string) =>
        (await ask(port, { path })).headers['content-security-policy'];
      expect(await policyOf('/hello')).toContain("default-src 'none'");
      expect(await policyOf('/nowhere/a')).toContain("script-src 'self'");
      expect(await policyOf('/nowhere/../hello')).toContain("default-src 'none'");
    });
  });

  describe('CORS', () => {
    const policy = { origins: [app], credentials: true, methods: ['PUT'], headers: ['X-One'] };
    const guard = chain().use('cors', cors(policy)).use('others', others).use('checked', checked);

    /** `Vary` may be on several lines. */
    function varyOf({ lines }: Answer): string[] {
      return lines
        .filter(([name]) => name === 'vary')
        .flatMap(([, value]) => value.toLowerCase().split(/, */));
    }

    function grantsOf({ lines }: Answer): readonly string[] {
      return lines.map(([name]) => name).filter((name) => name.startsWith('access-control-'));
    }

    test.each(Object.entries(answers))('lets an allowed origin read %s', async (_, of) => {
      const { port } = await serving(guard);
      const [{ headers, ...question }, status] = of;
      const answer = await ask(port, { ...question, headers: { ...headers, origin: app } });
      expect(answer.status).toBe(status);
      expect(answer.headers['access-control-allow-origin']).toBe(app);
      expect(answer.headers['access-control-allow-credentials']).toBe('true');
      expect(varyOf(answer).filter((name) => name === 'origin')).toEqual(['origin']);
    });

    test.each(Object.entries(answers))('lets no other origin read %s', async (_, of) => {
      const { port } = await serving(guard);
      const [{ headers, ...question }, status] = of;
      const answer = await ask(port, { ...question, headers: { ...headers, origin: evil } });
      expect(answer.status).toBe(status);
      expect(grantsOf(answer)).toEqual([]);
      expect(varyOf(answer)).toContain('origin');
    });

    test.each(Object.entries(answers))(
      'says that %s to nobody depends on the origin',
      async (_, of) => {
        const { port } = await serving(guard);
        const answer = await ask(port, of[0]);
        expect(answer.status).toBe(of[1]);
        expect(grantsOf(answer)).toEqual([]);
        expect(varyOf(answer)).toContain('origin');
      },
    );

    // Fastify's own validation.
    if (adapter === 'fastify') {
      test('lets an allowed origin read why the framework itself refuses input', async () => {
        const { port } = await serving(guard);
        const answer = await ask(port, {
          method: 'POST',
          path: '/validated',
          headers: { ...asJson, origin: app },
          body: '{"name":7}',
        });
        expect(answer.status).toBe(400);
        expect(answer.headers['access-control-allow-origin']).toBe(app);
      });
    }

    test('keeps what the handler says that its answer depends on', async () => {
      const { port } = await serving(guard);
      expect(varyOf(await ask(port)).sort()).toEqual(['accept', 'origin']);
    });

    test("takes nothing over from the request's own Vary", async () => {
      const { port } = await serving(guard);
      const answer = await ask(port, {
        path: '/throw',
        headers: { vary: '*, X-Evil', origin: app },
      });
      expect(varyOf(answer)).toEqual(['origin']);
    });

    test('answers preflights without running a handler', async () => {
      const ran = vi.fn();
      const { port } = await serving(guard, ran);
      const preflight = (origin: string) =>
        ask(port, {
          method: 'OPTIONS',
          headers: {
            origin,
            'access-control-request-method': 'DELETE',
            'access-control-request-headers': 'x-evil',
            'access-control-request-private-network': 'true',
          },
        });
      const allowed = await preflight(app);
      expect(allowed).toMatchObject({ status: 204, body: '' });
      expect(allowed.headers).toMatchObject({
        'access-control-allow-origin': app,
        'access-control-allow-methods': 'PUT',
        'access-control-allow-headers': 'X-One',
        'access-control-max-age': '3600',
        vary: 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers',
      });
      expect(JSON.stringify(allowed.lines)).not.toContain('evil');
      expect(JSON.stringify(allowed.lines)).not.toContain('private-network');
      const refused = await preflight(evil);
      expect(refused.status).toBe(204);
      expect(grantsOf(refused)).toEqual([]);
      expect(varyOf(refused)).toContain('origin');
      expect(ran).not.toHaveBeenCalled();
    });

    test('refuses other origins before the handler when told to', async () => {
      const ran = vi.fn();
      const { port } = await serving(cors({ ...policy, refuse: true }), ran);
      const refused = await ask(port, { headers: { origin: evil } });
      expect(refused.status).toBe(403);
      expect(refused.headers['content-type']).toBe('application/problem+json');
      expect(varyOf(refused)).toContain('origin');
      expect(ran).not.toHaveBeenCalled();
      expect((await ask(port, { headers: { origin: app } })).status).toBe(200);
      expect((await ask(port)).status).toBe(200);
    });

    test('tells none of the hostile origins anything, as far as HTTP can carry them', async () => {
      const { port } = await serving(guard);
      // A field value has no control characters, and node:http sends what is in ISO 8859-1 only; what is around it is cut off.
      const sendable = hostileOrigins.filter((origin) =>
        /^[\x21-\x7e\xa1-\xff]([\x20-\x7e\xa1-\xff]*[\x21-\x7e])?$/.test(origin),
      );
      expect(sendable.length).toBeGreaterThan(60);
      for (const origin of sendable) {
        const refused = await ask(port, { headers: { origin } });
        expect([origin, grantsOf(refused), refused.status]).toEqual([origin, [], 200]);
        const preflight = await ask(port, {
          method: 'OPTIONS',
          headers: { origin, 'access-control-request-method': 'PUT' },
        });
        expect([origin, grantsOf(preflight), preflight.status]).toEqual([origin, [], 204]);
      }
    });

    test('reads two Origin fields as none that it knows', async () => {
      const { port } = await serving(guard);
      const answer = await ask(port, { headers: { origin: [app, app] } });
      expect(grantsOf(answer)).toEqual([]);
    });
  });

  test('no header of a caller makes it fail or comes back', async () => {
    const { port } = await serving(
      chain()
        .use('headers', securityHeaders({ profile: 'api' }))
        .use('cors', cors({ origins: [app, { subdomainsOf: 'https://example.com' }] })),
    );
    // What HTTP allows in a field value (RFC 9110 §5.5).
    const value = fc
      .array(
        fc.integer({ min: 0x21, max: 0xff }).filter((code) => code !== 0x7f),
        { maxLength: 80 },
      )
      .map((codes) => `q${String.fromCharCode(...codes)}z`);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('GET', 'OPTIONS', 'DELETE'),
        value,
        value,
        value,
        async (method, origin, requestMethod, requestHeaders) => {
          const answer = await ask(port, {
            method,
            headers: {
              origin,
              'access-control-request-method': requestMethod,
              'access-control-request-headers': requestHeaders,
              'sec-fetch-site': requestMethod,
            },
          });
          expect(answer.status).toBeLessThan(500);
          const text = JSON.stringify(answer.lines) + answer.body;
          for (const sent of [origin, requestMethod, requestHeaders]) {
            expect(text).not.toContain(JSON.stringify(sent).slice(1, -1));
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});

test('a connection of its own over TLS is told to come back over TLS only', async () => {
  const { cert, key } = testCertificate();
  const listener = node(securityHeaders({ profile: 'api' }), (_req, res) => void res.end());
  const server = createServer({ cert, key }, listener).listen(0, '127.0.0.1');
  closing.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const req = open({ port, host: '127.0.0.1', ca: cert, agent: false }).end();
  const [{ headers }] = (await once(req, 'response')) as [IncomingMessage];
  expect(headers['strict-transport-security']).toBe('max-age=31536000; includeSubDomains');
});

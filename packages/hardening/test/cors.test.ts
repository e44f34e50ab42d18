import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cors as guard } from '../src/guard.ts';
import { cors } from '../src/index.ts';
import { hostileOrigins } from './hostile-origins.ts';

const app = 'https://app.example.com';
const ask = (origin: string | undefined, method = 'GET', requestMethod?: string) => ({
  method,
  origin,
  requestMethod,
});
const namesOf = (headers: readonly (readonly [string, string])[]) =>
  headers.map(([name]) => name.toLowerCase());

describe('an allowed origin', () => {
  const decide = cors({ origins: [app], credentials: true, exposeHeaders: ['RateLimit'] });

  test('may read the answer', () => {
    expect(decide(ask(app))).toEqual({
      kind: 'allowed',
      headers: [
        ['Vary', 'Origin'],
        ['Access-Control-Allow-Origin', app],
        ['Access-Control-Allow-Credentials', 'true'],
        ['Access-Control-Expose-Headers', 'RateLimit'],
      ],
    });
  });

  test('gets its preflight answered from the configuration, whatever it asked for', () => {
    const policy = cors({ origins: [app], methods: ['GET', 'PUT'], headers: ['Idempotency-Key'] });
    expect(policy(ask(app, 'OPTIONS', 'DELETE'))).toEqual({
      kind: 'preflight',
      headers: [
        ['Vary', 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers'],
        ['Access-Control-Allow-Origin', app],
        ['Access-Control-Allow-Methods', 'GET, PUT'],
        ['Access-Control-Allow-Headers', 'Idempotency-Key'],
        ['Access-Control-Max-Age', '3600'],
      ],
    });
  });

  test('is not asked for on OPTIONS requests that are no preflight', () => {
    expect(decide(ask(app, 'OPTIONS')).kind).toBe('allowed');
  });
});

describe('a response to nobody in particular', () => {
  test('says that it depends on the origin, so that caches keep answers apart', () => {
    const decide = cors({ origins: [app] });
    expect(decide(ask(undefined))).toEqual({ kind: 'same-origin', headers: [['Vary', 'Origin']] });
  });

  test('is readable for everybody when everybody may read it, because caches may give it to a page', () => {
    const decide = cors({ origins: '*' });
    const headers = [
      ['Vary', 'Origin'],
      ['Access-Control-Allow-Origin', '*'],
    ];
    expect(decide(ask('https://anybody.example'))).toEqual({ kind: 'allowed', headers });
    expect(decide(ask(undefined))).toEqual({ kind: 'same-origin', headers });
    expect(decide(ask('null'))).toEqual({ kind: 'refused', headers: [['Vary', 'Origin']] });
  });
});

describe('subdomains of an origin', () => {
  const decide = cors({ origins: [{ subdomainsOf: 'https://example.com' }] });

  test.each(['https://a.example.com', 'https://a.b.example.com'])('%s is one', (origin) => {
    expect(decide(ask(origin)).kind).toBe('allowed');
  });

  test.each([
    'https://example.com',
    'http://a.example.com',
    'https://a.example.com:8443',
    'https://aexample.com',
    'https://a.example.com.evil.com',
    'https://evil.com?.example.com',
    'https://evil.com#.example.com',
    'https://evil.com/.example.com',
    'https://evil.com\\.example.com',
    'https://user@a.example.com',
    'https://.example.com',
    'https://a.example.com.',
    'https://A.example.com',
  ])('%s is none', (origin) => {
    expect(decide(ask(origin)).kind).toBe('refused');
  });
});

describe('origins that are not the one', () => {
  const decide = cors({ origins: [app], credentials: true });

  test('there are many of them', () => {
    expect(new Set(hostileOrigins).size).toBeGreaterThan(80);
  });

  test.each(hostileOrigins)('%j may not read the answer', (origin) => {
    const { kind, headers } = decide(ask(origin));
    expect(kind).toBe('refused');
    expect(namesOf(headers)).toEqual(['vary']);
    const preflight = decide(ask(origin, 'OPTIONS', 'PUT'));
    expect(preflight.kind).toBe('refused-preflight');
    expect(namesOf(preflight.headers)).toEqual(['vary']);
  });

  test('nothing that was sent is sent back, but an origin that is allowed', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (origin, requestMethod) => {
        fc.pre(origin !== app);
        const { headers } = decide(ask(origin, 'OPTIONS', requestMethod));
        expect(namesOf(headers)).toEqual(['vary']);
      }),
    );
  });
});

describe('with credentials', () => {
  test('every other origin is told nothing: none is reflected', () => {
    const decide = cors({
      origins: [app, { subdomainsOf: 'https://example.com' }],
      credentials: true,
    });
    fc.assert(
      fc.property(fc.webUrl(), fc.constantFrom('GET', 'OPTIONS'), (url, method) => {
        const { origin } = new URL(url);
        fc.pre(!origin.endsWith('.example.com'));
        expect(namesOf(decide(ask(origin, method, 'PUT')).headers)).toEqual(['vary']);
      }),
    );
  });

  test('no answer says that everybody may read it', () => {
    const decide = cors({ origins: [app], credentials: true });
    for (const origin of [app, undefined, '*', 'null']) {
      for (const method of ['GET', 'OPTIONS']) {
        expect(JSON.stringify(decide(ask(origin, method, 'PUT')))).not.toContain('"*"');
      }
    }
  });
});

describe('a policy that would not protect is refused when it is built', () => {
  test.each([
    [{ origins: '*', credentials: true }, /credentials/],
    [{ origins: [] }, /origins/],
    [{ origins: ['*'] }, /not an origin/],
    [{ origins: ['null'] }, /not an origin/],
    [{ origins: ['https://app.example.com/'] }, /not an origin/],
    [{ origins: ['https://app.example.com:443'] }, /not an origin/],
    [{ origins: ['https://App.example.com'] }, /not an origin/],
    [{ origins: ['app.example.com'] }, /not an origin/],
    [{ origins: [/example/] }, /not an origin/],
    [{ origins: [{ subdomainsOf: '*.example.com' }] }, /not an origin/],
    [{ origins: ['https://*.example.com'] }, /subdomainsOf/],
    [{ origins: [{ subdomainsOf: 'https://*.example.com' }] }, /not an origin/],
    [{ origins: [{ subdomainsOf: 'http://127.0.0.1:3000' }] }, /no subdomains/],
    [{ origins: [{ subdomainsOf: 'http://[::1]' }] }, /no subdomains/],
    [{ origins: [{ subdomainsOf: 'https://example.com', ports: '*' }] }, /unknown option "ports"/],
    [{ origins: [null] }, /not an origin/],
    [{ origins: () => true }, /origins/],
    [{ origins: [app], methods: ['*'] }, /methods/],
    [{ origins: [app], methods: ['TRACE'] }, /TRACE/],
    [{ origins: [app], methods: ['patch'] }, /upper case/],
    [{ origins: [app], headers: ['*'] }, /headers/],
    [{ origins: [app], exposeHeaders: ['a b'] }, /exposeHeaders/],
    [{ origins: [app], credentials: 'false' }, /credentials must be/],
    [{ origins: [app], credentials: 0 }, /credentials must be/],
    [{ origins: [app], credentials: null }, /credentials must be/],
    [{ origins: [app], maxAgeSeconds: -1 }, /maxAgeSeconds/],
    [{ origins: [app], maxAge: 5 }, /unknown option "maxAge"/],
  ])('%j', (options, message) => {
    expect(() => cors(options as never)).toThrow(TypeError);
    expect(() => cors(options as never)).toThrow(message);
  });
});

describe('the guard', () => {
  const request = (method: string, headers: Record<string, string>) =>
    ({ method, headers: { get: (name: string) => headers[name] } }) as never;

  test.each(['no', 'false', 0, 1, null])('refuses %j for refuse when it is built', (refuse) => {
    const build = () => guard({ origins: [app], refuse: refuse as never });
    expect(build).toThrow(TypeError);
    expect(build).toThrow('cors: refuse must be');
  });

  test('answers a preflight itself', () => {
    const verdict = guard({ origins: [app] })(
      request('OPTIONS', { origin: app, 'access-control-request-method': 'POST' }),
      {},
    );
    expect(verdict).toMatchObject({ pass: false, status: 204 });
  });

  test('lets others through by default, and refuses them when told to', () => {
    const foreign = request('GET', { origin: 'https://evil.example' });
    expect(guard({ origins: [app] })(foreign, {})).toMatchObject({ pass: true });
    expect(guard({ origins: [app], refuse: true })(foreign, {})).toMatchObject({
      pass: false,
      status: 403,
      headers: expect.arrayContaining([['Vary', 'Origin']]),
    });
  });

  test('refuses preflights too when told to, but not pages of its own origin', () => {
    const strict = guard({ origins: [app], refuse: true });
    const preflight = { origin: 'https://evil.example', 'access-control-request-method': 'PUT' };
    expect(strict(request('OPTIONS', preflight), {})).toMatchObject({ status: 403 });
    expect(guard({ origins: [app] })(request('OPTIONS', preflight), {})).toMatchObject({
      status: 204,
      headers: [['Vary', expect.stringContaining('Origin')]],
    });
    const own = { origin: 'https://api.example.com', 'sec-fetch-site': 'same-origin' };
    expect(strict(request('POST', own), {})).toMatchObject({ pass: true });
  });
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { securityHeaders as guard } from '../src/guard.ts';
import { securityHeaders } from '../src/index.ts';

describe('securityHeaders', () => {
  test('an API answer may load nothing, be framed nowhere, be guessed at never and be stored by nobody', () => {
    expect(Object.fromEntries(securityHeaders({ profile: 'api' }).insecure)).toMatchObject({
      'X-Content-Type-Options': 'nosniff',
      'X-Frame-Options': 'DENY',
      'X-XSS-Protection': '0',
      'Content-Security-Policy': expect.stringMatching(
        /^default-src 'none'; frame-ancestors 'none'/,
      ),
      'Referrer-Policy': 'no-referrer',
      'Cache-Control': 'no-store, max-age=0',
      Pragma: 'no-cache',
      'Cross-Origin-Resource-Policy': 'same-origin',
      'X-Permitted-Cross-Domain-Policies': 'none',
    });
  });

  test('a page may load its own scripts and styles and be framed nowhere', () => {
    const { 'Content-Security-Policy': policy } = Object.fromEntries(
      securityHeaders({ profile: 'html' }).secure,
    );
    expect(policy).toContain("default-src 'self'; script-src 'self'; style-src 'self'");
    expect(policy).toContain("frame-ancestors 'none'");
  });

  // The project's ci/headers_add.json. Clear-Site-Data, for the answer to a log-out, is the handler's to send.
  test.each([
    ['Cache-Control', 'no-store, max-age=0'],
    ['Cross-Origin-Embedder-Policy', 'require-corp'],
    ['Cross-Origin-Opener-Policy', 'same-origin'],
    ['Cross-Origin-Resource-Policy', 'same-origin'],
    ['Referrer-Policy', 'no-referrer'],
    ['Strict-Transport-Security', 'max-age=31536000; includeSubDomains'],
    ['X-Content-Type-Options', 'nosniff'],
    ['X-Frame-Options', 'DENY'],
    ['X-Permitted-Cross-Domain-Policies', 'none'],
  ])('%s is what the OWASP Secure Headers Project recommends: %s', (name, value) => {
    for (const profile of ['api', 'html'] as const) {
      expect(securityHeaders({ profile }).secure).toContainEqual([name, value]);
    }
  });

  test('the content security policy of pages has every directive that the OWASP Secure Headers Project recommends', () => {
    const { 'Content-Security-Policy': policy = '' } = Object.fromEntries(
      securityHeaders({ profile: 'html' }).secure,
    );
    expect(policy.split('; ')).toEqual(
      expect.arrayContaining([
        "default-src 'self'",
        "form-action 'self'",
        "object-src 'none'",
        "frame-ancestors 'none'",
      ]),
    );
  });

  test('headers that the OWASP Secure Headers Project calls obsolete are not sent', () => {
    const names = securityHeaders({ profile: 'html' }).secure.map(([name]) => name);
    for (const obsolete of ['Public-Key-Pins', 'Expect-CT', 'Feature-Policy']) {
      expect(names).not.toContain(obsolete);
    }
  });

  test.each(['api', 'html'] as const)(
    'the %s profile loses no point at MDN HTTP Observatory',
    (profile) => {
      const headers = Object.fromEntries(securityHeaders({ profile }).secure);
      const policy = new Map(
        headers['Content-Security-Policy']?.split('; ').map((line) => {
          const [directive = '', ...values] = line.split(' ');
          return [directive, values];
        }),
      );
      const sources = [...policy.values()].flat();
      // content-security-policy: no unsafe sources, none that are broad, nothing over plain HTTP.
      expect(sources.filter((source) => /unsafe|\*|^https?:|^data:/.test(source))).toEqual([]);
      // … and a bonus for a default that allows nothing, where nothing is to be loaded.
      expect(policy.get('default-src')).toEqual([profile === 'api' ? "'none'" : "'self'"]);
      // … base-uri, form-action and frame-ancestors do not fall back to the default.
      for (const directive of ['base-uri', 'form-action', 'frame-ancestors']) {
        expect(policy.has(directive)).toBe(true);
      }
      // strict-transport-security: half a year or more.
      const [, maxAge = '0'] =
        /^max-age=(\d+)/.exec(headers['Strict-Transport-Security'] ?? '') ?? [];
      expect(Number(maxAge)).toBeGreaterThanOrEqual(15_768_000);
      expect(headers).toMatchObject({
        'X-Content-Type-Options': 'nosniff',
        'X-Frame-Options': expect.stringMatching(/^(?:DENY|SAMEORIGIN)$/),
        'Referrer-Policy': expect.stringMatching(/^(?:no-referrer|same-origin|strict-origin)/),
        'Cross-Origin-Resource-Policy': expect.stringMatching(/^same-(?:origin|site)$/),
      });
      // cross-origin-resource-sharing: not for everybody, unless somebody says so.
      expect(headers).not.toHaveProperty('Access-Control-Allow-Origin');
    },
  );

  test('Strict-Transport-Security goes on secure answers only', () => {
    const { secure, insecure } = securityHeaders({ profile: 'api' });
    expect(secure).toContainEqual([
      'Strict-Transport-Security',
      'max-age=31536000; includeSubDomains',
    ]);
    expect(insecure.map(([name]) => name)).not.toContain('Strict-Transport-Security');
  });

  test('preload is sent to whom asks for it, with what it needs', () => {
    const { secure } = securityHeaders({
      profile: 'api',
      strictTransportSecurity: { preload: true, maxAgeSeconds: 63_072_000 },
    });
    expect(secure).toContainEqual([
      'Strict-Transport-Security',
      'max-age=63072000; includeSubDomains; preload',
    ]);
  });

  test('subdomains are left alone when that is said', () => {
    const { secure } = securityHeaders({
      profile: 'api',
      strictTransportSecurity: { includeSubDomains: false },
    });
    expect(secure).toContainEqual(['Strict-Transport-Security', 'max-age=31536000']);
  });

  test('a header that is false is not sent', () => {
    const names = securityHeaders({
      profile: 'api',
      contentSecurityPolicy: false,
      strictTransportSecurity: false,
    }).secure.map(([name]) => name);
    expect(names).not.toContain('Content-Security-Policy');
    expect(names).not.toContain('Strict-Transport-Security');
  });

  test('each header may be left out', () => {
    const off = {
      strictTransportSecurity: false,
      contentSecurityPolicy: false,
      contentTypeOptions: false,
      frameOptions: false,
      xssProtection: false,
      referrerPolicy: false,
      permissionsPolicy: false,
      crossOriginOpenerPolicy: false,
      crossOriginEmbedderPolicy: false,
      crossOriginResourcePolicy: false,
      permittedCrossDomainPolicies: false,
      cacheControl: false,
    } as const;
    expect(securityHeaders({ profile: 'html', ...off }).secure).toEqual([]);
  });

  test('directives and features replace those of the profile one by one', () => {
    const headers = Object.fromEntries(
      securityHeaders({
        profile: 'html',
        contentSecurityPolicy: {
          'img-src': ["'self'", 'https://img.example.com', 'data:'],
          'form-action': false,
          'upgrade-insecure-requests': [],
        },
        permissionsPolicy: {
          camera: ['self', 'https://meet.example.com'],
          usb: ['*'],
          midi: false,
        },
      }).insecure,
    );
    const policy = headers['Content-Security-Policy']?.split('; ');
    expect(policy).toEqual(
      expect.arrayContaining([
        "script-src 'self'",
        "img-src 'self' https://img.example.com data:",
        'upgrade-insecure-requests',
      ]),
    );
    expect(headers['Content-Security-Policy']).not.toContain('form-action');
    const features = headers['Permissions-Policy']?.split(', ');
    expect(features).toEqual(
      expect.arrayContaining(['camera=(self "https://meet.example.com")', 'usb=*', 'serial=()']),
    );
    expect(headers['Permissions-Policy']).not.toContain('midi');
  });

  test('answers that may be cached carry no Pragma', () => {
    const headers = Object.fromEntries(
      securityHeaders({ profile: 'html', cacheControl: 'public, max-age=60' }).insecure,
    );
    expect(headers).toMatchObject({ 'Cache-Control': 'public, max-age=60' });
    expect(headers).not.toHaveProperty('Pragma');
  });

  test.each([
    'no-cache',
    'private, max-age=0, must-revalidate',
    'public,max-age=31536000,immutable',
    'public, s-maxage=60, stale-while-revalidate=30, stale-if-error=600',
    'no-store, must-understand, no-transform, proxy-revalidate',
  ])('Cache-Control may be %s', (cacheControl) => {
    expect(securityHeaders({ profile: 'html', cacheControl }).insecure).toContainEqual([
      'Cache-Control',
      cacheControl,
    ]);
  });

  test.each([
    'default-src *',
    "img-src 'self' data: blob: https: https://* *.example.com https://*.example.com:8443 wss://a.example:*",
    'img-src localhost:3000 127.0.0.1 nonce-service.example.com https://a.example/x/y%20z.png https://a.example/~it/(1)',
    "script-src 'strict-dynamic' 'sha256-abcDEF+/=' 'unsafe-hashes' 'report-sample'",
    'sandbox',
    'sandbox allow-forms allow-scripts allow-popups-to-escape-sandbox allow-top-navigation-by-user-activation',
    'upgrade-insecure-requests',
    "require-trusted-types-for 'script'; trusted-types dompurify my-app#html 'allow-duplicates'",
    "trusted-types 'none'",
    'trusted-types *',
    'report-uri /csp-reports?from=a https://reports.example.com/csp; report-to csp-endpoint',
  ])('Content-Security-Policy may be %s', (contentSecurityPolicy) => {
    expect(securityHeaders({ profile: 'html', contentSecurityPolicy }).insecure).toContainEqual([
      'Content-Security-Policy',
      contentSecurityPolicy,
    ]);
  });

  describe('with routes', () => {
    const headers = securityHeaders({
      profile: 'api',
      frameOptions: 'SAMEORIGIN',
      routes: {
        '/docs': { profile: 'html' },
        '/docs/*': { profile: 'html', cacheControl: 'public, max-age=60' },
        '/docs/private/*': { cacheControl: false },
      },
    });
    const at = (path: string) => Object.fromEntries(headers.at(path).insecure);

    test('a path has what is said for it, and what is said for all', () => {
      expect(at('/docs')['Content-Security-Policy']).toContain("script-src 'self'");
      expect(at('/docs')['Cache-Control']).toContain('no-store');
      expect(at('/docs/a/b')['Cache-Control']).toBe('public, max-age=60');
      expect(at('/docs/a/b')['X-Frame-Options']).toBe('SAMEORIGIN');
    });

    test('the longest that fits counts', () => {
      expect(at('/docs/private/1')).not.toHaveProperty('Cache-Control');
      expect(at('/docs/private/1')['Content-Security-Policy']).toContain("default-src 'none'");
    });

    test.each(['/a/b', '/a/'])('%s alone counts more than all below /a', (exact) => {
      const { at: set } = securityHeaders({
        profile: 'api',
        routes: { '/a/*': { frameOptions: false }, [exact]: { frameOptions: 'SAMEORIGIN' } },
      });
      expect(Object.fromEntries(set(exact).insecure)['X-Frame-Options']).toBe('SAMEORIGIN');
    });

    test.each([
      '/',
      '/docs2',
      '/DOCS/a',
      '//docs/a',
      '/docs//a',
      '/docs/../admin',
      '/docs/..',
      '/docs/./a',
      '/docs/%2e%2e/admin',
      '/docs/%2E./admin',
      '/docs/%252e%252e/admin',
      '/docs/..%2fadmin',
      '/docs/..%5cadmin',
      '/docs/..\\admin',
      '/docs/..;/admin',
      '/docs/a;b',
      '/docs/%00',
      'http://host/docs/a',
      '',
    ])('%j, which a router may read in another way, has none of it', (path) => {
      expect(headers.at(path)).toEqual(headers.at('/elsewhere'));
      expect(at(path)['Content-Security-Policy']).toContain("default-src 'none'");
    });

    test('no path makes it throw, and whatever it gives was there before', () => {
      const known = ['/x', '/docs', '/docs/a', '/docs/private/a'].map((path) => headers.at(path));
      fc.assert(
        fc.property(fc.oneof(fc.string(), fc.webPath()), (path) => {
          expect(known).toContain(headers.at(path));
        }),
      );
    });
  });

  test.each([
    [{ profile: 'API' }, /profile/],
    [{ profile: 'api', frameOption: 'DENY' }, /unknown option "frameOption"/],
    [{ profile: 'api', referrerPolicy: '' }, /referrerPolicy/],
    [
      { profile: 'api', contentSecurityPolicy: "default-src 'none'\r\nSet-Cookie: a=b" },
      /printable/,
    ],
    [{ profile: 'api', contentSecurityPolicy: '' }, /empty/],
    [{ profile: 'api', contentSecurityPolicy: "default-scr 'none'" }, /no directive "default-scr"/],
    [{ profile: 'api', contentSecurityPolicy: 'default-src self' }, /without quotes/],
    [{ profile: 'api', contentSecurityPolicy: "default-src 'slef'" }, /no keyword/],
    [{ profile: 'api', contentSecurityPolicy: "default-src 'self' 'none'" }, /beside/],
    [{ profile: 'api', contentSecurityPolicy: 'default-src' }, /no values/],
    [{ profile: 'api', contentSecurityPolicy: "img-src 'self'; img-src *" }, /twice/],
    [{ profile: 'api', contentSecurityPolicy: { 'img-src': ["'nonce-abc'"] } }, /nonce/],
    [{ profile: 'api', contentSecurityPolicy: "img-src 'self" }, /neither/],
    [{ profile: 'api', contentSecurityPolicy: "img-src self'" }, /neither/],
    [{ profile: 'api', contentSecurityPolicy: "img-src 's'elf" }, /neither/],
    [{ profile: 'api', contentSecurityPolicy: 'img-src "self"' }, /neither/],
    [{ profile: 'api', contentSecurityPolicy: 'script-src nonce-abc' }, /without quotes/],
    [{ profile: 'api', contentSecurityPolicy: 'script-src NONCE-YWJj' }, /without quotes/],
    [{ profile: 'api', contentSecurityPolicy: 'script-src sha256-abc=' }, /without quotes/],
    [{ profile: 'api', contentSecurityPolicy: 'script-src sha512-a+b/c==' }, /without quotes/],
    [{ profile: 'api', contentSecurityPolicy: 'img-src http://' }, /neither/],
    [{ profile: 'api', contentSecurityPolicy: 'img-src https://a.example?x' }, /neither/],
    [{ profile: 'api', contentSecurityPolicy: 'img-src *.*.example' }, /neither/],
    [{ profile: 'api', contentSecurityPolicy: 'img-src a..example' }, /neither/],
    [{ profile: 'api', contentSecurityPolicy: "script-src 'script'" }, /no keyword/],
    [{ profile: 'api', contentSecurityPolicy: "frame-ancestors 'unsafe-inline'" }, /no keyword/],
    [{ profile: 'api', contentSecurityPolicy: "__proto__ 'self'; img-src 'self'" }, /__proto__/],
    [{ profile: 'api', contentSecurityPolicy: "script-src 'sha256-'" }, /no keyword/],
    [{ profile: 'api', contentSecurityPolicy: 'sandbox allow-script' }, /sandbox/],
    [{ profile: 'api', contentSecurityPolicy: "sandbox 'none'" }, /sandbox/],
    [{ profile: 'api', contentSecurityPolicy: "sandbox 'allow-scripts'" }, /sandbox/],
    [{ profile: 'api', contentSecurityPolicy: 'upgrade-insecure-requests 1' }, /no values/],
    [{ profile: 'api', contentSecurityPolicy: "upgrade-insecure-requests 'self'" }, /no values/],
    [
      { profile: 'api', contentSecurityPolicy: 'require-trusted-types-for script' },
      /require-trusted-types-for/,
    ],
    [
      { profile: 'api', contentSecurityPolicy: "require-trusted-types-for 'style'" },
      /require-trusted-types-for/,
    ],
    [
      { profile: 'api', contentSecurityPolicy: "require-trusted-types-for 'none'" },
      /require-trusted-types-for/,
    ],
    [{ profile: 'api', contentSecurityPolicy: 'require-trusted-types-for' }, /no values/],
    [{ profile: 'api', contentSecurityPolicy: "report-to 'none'" }, /report-to/],
    [{ profile: 'api', contentSecurityPolicy: 'report-to a b' }, /report-to/],
    [{ profile: 'api', contentSecurityPolicy: "trusted-types 'self'" }, /trusted-types/],
    [{ profile: 'api', contentSecurityPolicy: 'trusted-types none' }, /without quotes/],
    [{ profile: 'api', contentSecurityPolicy: "report-uri 'self'" }, /report-uri/],
    [{ profile: 'api', contentSecurityPolicy: { imgSrc: ["'self'"] } }, /no directive "imgSrc"/],
    [{ profile: 'api', contentSecurityPolicy: { 'img-src': "'self'" } }, /list/],
    [{ profile: 'api', permissionsPolicy: { camra: [] } }, /no feature "camra"/],
    [{ profile: 'api', permissionsPolicy: { camera: ['example.com'] } }, /neither/],
    [{ profile: 'api', permissionsPolicy: 'camera=()' }, /object/],
    [{ profile: 'api', cacheControl: 'no-store;private' }, /cacheControl/],
    [{ profile: 'api', cacheControl: '' }, /cacheControl/],
    [{ profile: 'api', cacheControl: 'no-stor' }, /cacheControl/],
    [{ profile: 'api', cacheControl: 'no-store=1' }, /cacheControl/],
    [{ profile: 'api', cacheControl: 'max-age' }, /cacheControl/],
    [{ profile: 'api', cacheControl: 'max-age=1h' }, /cacheControl/],
    [{ profile: 'api', cacheControl: 's-maxage=-1' }, /cacheControl/],
    [{ profile: 'api', cacheControl: 'private,' }, /cacheControl/],
    [{ profile: 'api', cacheControl: 'no-store,\r\n private' }, /cacheControl/],
    [{ profile: 'api', cacheControl: 'no-store\n' }, /cacheControl/],
    [{ profile: 'api', cacheControl: 'max-age=60, max-age=0' }, /cacheControl/],
    [{ profile: 'api', cacheControl: 'max-stale=60' }, /cacheControl/],
    [{ profile: 'api', cacheControl: true }, /cacheControl/],
    [{ profile: 'api', frameOptions: 'ALLOW-FROM https://a.example' }, /frameOptions/],
    [{ profile: 'api', strictTransportSecurity: { maxAge: 1 } }, /strictTransportSecurity.maxAge/],
    [{ profile: 'api', routes: { '/docs': { profil: 'html' } } }, /unknown option "profil"/],
    [{ profile: 'api', routes: { 'docs/*': {} } }, /routes/],
    [{ profile: 'api', routes: { '/docs/**': {} } }, /routes/],
    [{ profile: 'api', routes: { '/docs/../*': {} } }, /routes/],
    [{ profile: 'api', strictTransportSecurity: { maxAgeSeconds: -1 } }, /maxAgeSeconds/],
    [
      { profile: 'api', strictTransportSecurity: { preload: 'false' } },
      /strictTransportSecurity.preload must be/,
    ],
    [
      { profile: 'api', strictTransportSecurity: { preload: 0 } },
      /strictTransportSecurity.preload must be/,
    ],
    [
      { profile: 'api', strictTransportSecurity: { includeSubDomains: 'false' } },
      /includeSubDomains must be/,
    ],
    [{ profile: 'api', strictTransportSecurity: true }, /strictTransportSecurity must be/],
    [{ profile: 'api', strictTransportSecurity: 1 }, /strictTransportSecurity must be/],
    [{ profile: 'api', strictTransportSecurity: 'max-age=1' }, /strictTransportSecurity must be/],
    [{ profile: 'api', strictTransportSecurity: null }, /strictTransportSecurity must be/],
    [{ profile: 'api', strictTransportSecurity: [] }, /strictTransportSecurity must be/],
    [{ profile: 'api', contentSecurityPolicy: true }, /must be false/],
    [{ profile: 'api', contentSecurityPolicy: 1 }, /must be false/],
    [{ profile: 'api', contentSecurityPolicy: null }, /must be false/],
    [{ profile: 'api', contentSecurityPolicy: [] }, /must be false/],
    [{ profile: 'api', routes: { '/docs': false } }, /routes/],
    [{ profile: 'api', routes: { '/docs': 'html' } }, /routes/],
    [{ profile: 'api', routes: true }, /routes/],
    [{ profile: 'api', routes: null }, /routes/],
    [{ profile: 'api', strictTransportSecurity: { preload: true, maxAgeSeconds: 60 } }, /preload/],
  ])('refuses %j when it is built', (options, message) => {
    expect(() => securityHeaders(options as never)).toThrow(TypeError);
    expect(() => securityHeaders(options as never)).toThrow(message);
  });

  test('the guard lets everything pass and tells secure requests from others', () => {
    const check = guard({ profile: 'api' });
    const names = (secure: boolean) => {
      const verdict = check({ secure, path: '/' } as never, {});
      return 'headers' in verdict ? verdict.headers?.map(([name]) => name) : [];
    };
    expect(names(true)).toContain('Strict-Transport-Security');
    expect(names(false)).not.toContain('Strict-Transport-Security');
  });
});

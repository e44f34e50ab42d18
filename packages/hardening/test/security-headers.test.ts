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
      'Cache-Control': 'no-store',
    });
  });

  test('a page may load its own scripts and styles and be framed nowhere', () => {
    const { 'Content-Security-Policy': policy } = Object.fromEntries(
      securityHeaders({ profile: 'html' }).secure,
    );
    expect(policy).toContain("default-src 'self'; script-src 'self'; style-src 'self'");
    expect(policy).toContain("frame-ancestors 'none'");
  });

  test('Strict-Transport-Security goes on secure answers only', () => {
    const { secure, insecure } = securityHeaders({ profile: 'api' });
    expect(secure).toContainEqual([
      'Strict-Transport-Security',
      'max-age=31536000; includeSubDomains',
    ]);
    expect(insecure.map(([name]) => name)).not.toContain('Strict-Transport-Security');
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

  test.each([
    [{ profile: 'API' }, /profile/],
    [{ profile: 'api', frameOption: 'DENY' }, /unknown option "frameOption"/],
    [{ profile: 'api', referrerPolicy: '' }, /Referrer-Policy/],
    [
      { profile: 'api', contentSecurityPolicy: "default-src 'none'\r\nSet-Cookie: a=b" },
      /printable/,
    ],
    [{ profile: 'api', strictTransportSecurity: { maxAgeSeconds: -1 } }, /maxAgeSeconds/],
    [{ profile: 'api', strictTransportSecurity: { preload: true, maxAgeSeconds: 60 } }, /preload/],
  ])('refuses %j when it is built', (options, message) => {
    expect(() => securityHeaders(options as never)).toThrow(TypeError);
    expect(() => securityHeaders(options as never)).toThrow(message);
  });

  test('the guard lets everything pass and tells secure requests from others', () => {
    const check = guard({ profile: 'api' });
    const names = (secure: boolean) => {
      const verdict = check({ secure } as never, {});
      return 'headers' in verdict ? verdict.headers?.map(([name]) => name) : [];
    };
    expect(names(true)).toContain('Strict-Transport-Security');
    expect(names(false)).not.toContain('Strict-Transport-Security');
  });
});

import { describe, expect, test } from 'vitest';
import { redaction } from '../src/redaction.ts';

describe('redaction', () => {
  const { name, value, path } = redaction(['X-Internal']);

  test.each([
    'authorization',
    'Proxy-Authorization',
    'cookie',
    'set-cookie',
    'x-api-key',
    'apikey',
    'api_key',
    'access_token',
    'refresh-token',
    'id_token_hint',
    'client_secret',
    'password',
    'passwd',
    'code',
    'state',
    'X-Amz-Signature',
    'x-amz-credential',
    'sig',
    'session_id',
    'x-csrf-token',
    'DPoP',
    'client_assertion',
    'key',
    'access_key',
    'AWSAccessKeyId',
    'Ocp-Apim-Subscription-Key',
    'sid',
    'pass',
    'x-internal',
    'X-INTERNAL',
  ])('the value of %s is not written down', (name) => {
    expect(value(name, 'abc')).toBe('[redacted]');
  });

  test.each([
    'Bearer abc',
    'basic YTpi',
    'x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig',
    // Encrypted directly: there is no key in it.
    'eyJhbGciOiJkaXIifQ..iv.ciphertext.tag',
    'key=sk-live-0123456789abcdef0123',
    'whsec_0123456789abcdef0123',
    'ghp_0123456789abcdef0123456789',
  ])('%s is not written down, whatever its name', (text) => {
    expect(value('note', text)).toBe('[redacted]');
    expect(path(`/a/${text}/b`)).toBe('/a/[redacted]/b');
    expect(name(text)).toBe('[redacted]');
  });

  test('a token is not written down when what is looked at ends within it', () => {
    const long = `eyJhbGciOiJIUzI1NiJ9.eyJ${'a'.repeat(600)}.sig`;
    expect(value('note', long)).toBe('[redacted]');
    expect(path(`/a/${long}`)).toBe('/a/[redacted]');
    expect(name(long)).toBe('[redacted]');
  });

  test.each([
    ['user-agent', 'curl/8'],
    ['page', '2'],
    ['country_code', 'DE'],
    ['status', 'open'],
    ['keyword', 'a'],
    ['sort_key', 'a'],
    ['inside', 'a'],
    ['passenger', 'a'],
  ])('%s: %s is', (name, text) => {
    expect(value(name, text)).toBe(text);
  });

  test('what is long is cut', () => {
    expect(value('note', 'x'.repeat(5000))).toHaveLength(257);
    expect(path(`/${'x'.repeat(5000)}`)).toHaveLength(513);
    expect(name('x'.repeat(5000))).toHaveLength(100);
    expect(name('page')).toBe('page');
  });
});

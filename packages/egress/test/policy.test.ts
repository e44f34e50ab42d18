import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, expect, test } from 'vitest';
import { assertAllowed, EgressError, type EgressPolicyOptions } from '../src/index.ts';

const DENIED = expect.objectContaining({ code: 'ERR_EGRESS_DENIED' }) as EgressError;

function allowed(url: string, options?: EgressPolicyOptions): boolean {
  try {
    assertAllowed(url, options);
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(EgressError);
    expect(error).toEqual(DENIED);
    return false;
  }
}

describe('assertAllowed', () => {
  test('by default: https to every public host and port, nothing else', () => {
    expect(allowed('https://api.example.com/v1?x=1')).toBe(true);
    expect(allowed('https://api.example.com:8443')).toBe(true);
    expect(allowed('https://93.184.216.34')).toBe(true);
    expect(allowed('https://[2606:2800:220:1::1]')).toBe(true);
    expect(allowed('http://api.example.com')).toBe(false);
    expect(allowed('https://10.0.0.1')).toBe(false);
    expect(allowed('ftp://api.example.com')).toBe(false);
    expect(allowed('file:///etc/passwd')).toBe(false);
    expect(allowed('not a url')).toBe(false);
  });

  test('a URL with credentials is refused', () => {
    expect(allowed('https://user@api.example.com')).toBe(false);
    expect(allowed('https://:secret@api.example.com')).toBe(false);
  });

  test.each([
    [['api.example.com'], 'https://api.example.com', true],
    [['api.example.com'], 'https://API.Example.COM.:444/', true],
    [['api.example.com'], 'https://other.example.com', false],
    [['api.example.com'], 'https://93.184.216.34', false],
    [['api.example.com'], 'http://api.example.com', false],
    [['http://api.example.com'], 'http://api.example.com', true],
    [['http://api.example.com'], 'https://api.example.com', false],
    [['api.example.com:443'], 'https://api.example.com:8443', false],
    [['api.example.com:*'], 'https://api.example.com:8443', true],
    [['*.example.com'], 'https://a.b.example.com', true],
    [['*.example.com'], 'https://example.com', false],
    [['*.example.com'], 'https://badexample.com', false],
    [['bücher.example'], 'https://xn--bcher-kva.example', true],
    [['public', '10.0.0.0/8'], 'https://10.1.2.3:8443', true],
    [['public', '10.0.0.0/8'], 'https://11.1.2.3', true],
    [['public', '10.0.0.0/8'], 'https://192.168.0.1', false],
    [['10.0.0.0/8'], 'https://93.184.216.34', false],
    [['[10.0.0.0/8]:8443'], 'https://10.0.0.1:8443', true],
    [['10.0.0.0/8:8443'], 'https://10.0.0.1', false],
    [['http://127.0.0.1:*'], 'http://127.0.0.1:9999', true],
    [['http://127.0.0.1:*'], 'http://0x7f000001:9999', true],
    [['127.0.0.1:8080'], 'https://127.0.0.1:8080', true],
    [['127.0.0.1:8080'], 'http://127.0.0.1:8080', false],
    [['fd00::/8'], 'https://[fd00::1]', true],
    [['[::1]:8080'], 'https://[::1]:8080', true],
    [['::1'], 'https://[::1]:8080', true],
    [['public:443'], 'https://api.example.com:8443', false],
    [[], 'https://api.example.com', false],
  ])('with allow %j, %s: %s', (allow, url, expected) => {
    expect(allowed(url, { allow })).toBe(expected);
  });

  test('with httpsOnly off, entries without a scheme are for both', () => {
    expect(allowed('http://api.example.com', { httpsOnly: false })).toBe(true);
    expect(allowed('http://127.0.0.1', { httpsOnly: false })).toBe(false);
    expect(allowed('http://127.0.0.1', { httpsOnly: false, allow: ['127.0.0.1'] })).toBe(true);
    expect(allowed('http://a.example', { httpsOnly: false, allow: ['https://a.example'] })).toBe(
      false,
    );
  });

  test.each([
    [['api.example.com'], 'https://api.example.com', false],
    [['*.example.com'], 'https://api.example.com', false],
    [['*.example.com'], 'https://example.com', true],
    [['203.0.0.0/8'], 'https://203.1.2.3', false],
    [['public:22'], 'https://93.184.216.34:22', false],
    [['public:22'], 'https://93.184.216.34', true],
    [['http://api.example.com'], 'https://api.example.com', true],
  ])('deny %j wins over allow: %s: %s', (deny, url, expected) => {
    expect(allowed(url, { deny })).toBe(expected);
  });

  test('a deny block is not got around through an IPv6 form of the address', () => {
    const options = { allow: ['public', '::/0'], deny: ['10.0.0.0/8'] };
    expect(allowed('https://[::ffff:9.0.0.1]', options)).toBe(true);
    for (const host of ['::ffff:10.0.0.1', '64:ff9b::a00:1', '2002:a00:1::', '::10.0.0.1']) {
      expect(allowed(`https://[${host}]`, options)).toBe(false);
    }
  });

  test('allowing a block does not allow the same addresses written as IPv6', () => {
    expect(allowed('https://[::ffff:10.0.0.1]', { allow: ['10.0.0.0/8'] })).toBe(false);
  });

  test.each([
    '',
    '*',
    'http://',
    'ftp://x.example',
    'https://x.example/path',
    'x.example:0',
    'x.example:65536',
    'x.example:http',
    'user@x.example',
    'x.*.example',
    '10.0.0.0/33',
    '10.0.0.1/8',
    '[::1',
    'fe80::1%eth0',
    'a b',
  ])('refuses the entry %j at construction', (entry) => {
    expect(() => assertAllowed('https://x.example', { allow: [entry] })).toThrow(TypeError);
    expect(() => assertAllowed('https://x.example', { deny: [entry] })).toThrow(TypeError);
  });

  test.each([
    [{ allow: 'public' }, /allow/],
    [{ deny: 'x' }, /deny/],
    [{ allow: [7] }, /allow/],
    [{ httpsOnly: 'no' }, /httpsOnly/],
  ])('refuses %o', (options, message) => {
    expect(() =>
      assertAllowed('https://x.example', options as unknown as EgressPolicyOptions),
    ).toThrow(message);
  });

  test('a refusal names the origin, never the path or the query', () => {
    expect(() => assertAllowed('https://10.0.0.1/secret?token=hunter2')).toThrow(
      /^refused https:\/\/10\.0\.0\.1:443: no allow entry covers the address 10\.0\.0\.1 \(private\)$/,
    );
  });

  test('port 0 is port 0', () => {
    const allow = ['x.example:443'];
    expect(() => assertAllowed('https://x.example', { allow })).not.toThrow();
    expect(() => assertAllowed('https://x.example:0', { allow })).toThrow(/x\.example:0/);
  });

  test('the refusal of a scheme is published, too', () => {
    const seen: unknown[] = [];
    const listen = (message: unknown): void => void seen.push(message);
    subscribe('countersign:egress:denied', listen);
    expect(allowed('ftp://x.example/secret')).toBe(false);
    unsubscribe('countersign:egress:denied', listen);
    expect(seen).toEqual([
      { origin: 'ftp://x.example', reason: 'refused: ftp is neither http nor https' },
    ]);
  });

  test('a refusal is published', () => {
    const seen: unknown[] = [];
    const listen = (message: unknown): void => void seen.push(message);
    subscribe('countersign:egress:denied', listen);
    expect(allowed('https://[::1]:8080')).toBe(false);
    unsubscribe('countersign:egress:denied', listen);
    expect(seen).toEqual([
      {
        origin: 'https://[::1]:8080',
        address: '::1',
        reason: 'refused https://[::1]:8080: no allow entry covers the address ::1 (loopback)',
      },
    ]);
  });
});

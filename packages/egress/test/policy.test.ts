import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import fc from 'fast-check';
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
    [['public'], 'https://localhost', false],
    [['public'], 'https://LOCALHOST.', false],
    [['public'], 'https://a.b.localhost:8443', false],
    [['public', '10.0.0.0/8'], 'https://localhost', false],
    [['public'], 'https://notlocalhost', true],
    [['127.0.0.0/8'], 'https://localhost', true],
    [['[::1]:8443'], 'https://localhost:8443', true],
    [['localhost'], 'https://localhost', true],
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
    [['api.example.com'], 'https://api.example.com..', false],
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
    [{ alow: ['x.example'] }, /^alow: there is no such option$/],
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

/** Any spelling of an IPv4 address that a URL may have: one to four numbers, each decimal, octal or hexadecimal. */
const spelled = (address: number): fc.Arbitrary<string> =>
  fc
    .record({
      parts: fc.integer({ min: 1, max: 4 }),
      bases: fc.array(fc.constantFrom('decimal', 'octal', 'hex', 'HEX'), {
        minLength: 4,
        maxLength: 4,
      }),
      zeros: fc.integer({ min: 0, max: 3 }),
      dot: fc.constantFrom('', '.'),
    })
    .map(({ parts, bases, zeros, dot }) => {
      const leading = Array.from(
        { length: parts - 1 },
        (_, index) => (address >>> (24 - 8 * index)) & 255,
      );
      const rest = address % 256 ** (5 - parts);
      const written = [...leading, rest].map((number, index) => {
        if (bases[index] === 'decimal') return String(number);
        const pad = '0'.repeat(zeros);
        if (bases[index] === 'octal') return `0${pad}${number.toString(8)}`;
        return bases[index] === 'hex'
          ? `0x${pad}${number.toString(16)}`
          : `0X${pad}${number.toString(16).toUpperCase()}`;
      });
      return `${written.join('.')}${dot}`;
    });

/** Any IPv6 address that leads to an IPv4 one. */
const embedded = (address: number): fc.Arbitrary<string> => {
  const [high, low] = [address >>> 16, address & 0xffff].map((half) => half.toString(16));
  const dotted = [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.');
  return fc.constantFrom(
    `[::ffff:${dotted}]`,
    `[::FFFF:${high}:${low}]`,
    `[0:0:0:0:0:ffff:${dotted}]`,
    `[::${dotted}]`,
    `[::ffff:0:${dotted}]`,
    `[64:ff9b::${dotted}]`,
    `[64:ff9b:1::${high}:${low}]`,
    `[2002:${high}:${low}::1]`,
    `[2001:0:${high}:${low}::1]`,
    `[2606:2800:220:1:0:5efe:${dotted}]`,
  );
};

const block = (network: string, prefixLength: number): fc.Arbitrary<number> => {
  const [a = 0, b = 0, c = 0, d = 0] = network.split('.').map(Number);
  const first = ((a * 256 + b) * 256 + c) * 256 + d;
  return fc.nat({ max: 2 ** (32 - prefixLength) - 1 }).map((offset) => first + offset);
};

const inside = fc.oneof(
  block('0.0.0.0', 8),
  block('10.0.0.0', 8),
  block('100.64.0.0', 10),
  block('127.0.0.0', 8),
  block('169.254.0.0', 16),
  block('172.16.0.0', 12),
  block('192.0.0.0', 24),
  block('192.168.0.0', 16),
  block('198.18.0.0', 15),
  block('224.0.0.0', 3),
  block('168.63.129.16', 32),
);

describe('however it is spelled', () => {
  test('an address inside is refused', () => {
    fc.assert(
      fc.property(
        inside.chain((address) => fc.oneof(spelled(address), embedded(address))),
        (host) => {
          expect(allowed(`https://${host}/`)).toBe(false);
        },
      ),
      { numRuns: 1000 },
    );
  });

  test('a public address is allowed as IPv4, and not within IPv6', () => {
    const outside = fc.oneof(block('8.0.0.0', 8), block('93.184.216.0', 24));
    fc.assert(
      fc.property(
        outside.chain((address) => fc.tuple(spelled(address), embedded(address))),
        ([plain, hidden]) => {
          expect([allowed(`https://${plain}/`), allowed(`https://${hidden}/`)]).toEqual([
            true,
            false,
          ]);
        },
      ),
      { numRuns: 500 },
    );
  });
});

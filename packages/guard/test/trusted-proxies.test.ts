import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { callerAddress, normalize, trustOf } from '../src/trusted-proxies.ts';

const trusts = trustOf(['10.0.0.0/8', '192.168.1.1', 'fd00::/8']);
const untrusted = fc.constantFrom(
  '203.0.113.7',
  '198.51.100.9',
  '2001:db8::1',
  '192.168.1.2',
  '11.0.0.1',
);
const proxy = fc.constantFrom('10.1.2.3', '192.168.1.1', 'fd00::9', '::ffff:10.9.9.9');
const junk = fc.oneof(fc.string(), fc.ipV4(), fc.ipV6(), proxy, fc.constant('unknown'));

describe('the caller behind proxies', () => {
  test('a peer that is no trusted proxy is itself, whatever it claims', () => {
    fc.assert(
      fc.property(untrusted, fc.array(junk), (peer, claims) => {
        expect(callerAddress(peer, claims, trusts)).toBe(peer);
      }),
    );
  });

  test('what a caller writes into the header never becomes its address', () => {
    // The caller sends `claims`; the first proxy appends the caller, each further proxy the one before it.
    const forwarded = fc.tuple(
      fc.array(junk),
      untrusted,
      fc.array(proxy, { minLength: 1, maxLength: 4 }),
    );
    fc.assert(
      fc.property(forwarded, ([claims, caller, proxies]) => {
        const [peer, ...hops] = proxies.toReversed() as [string, ...string[]];
        const header = [...claims, caller, ...hops.toReversed()].join(', ');
        expect(callerAddress(peer, [header], trusts)).toBe(normalize(caller));
      }),
    );
  });

  test('field lines are one list, in their order', () => {
    expect(callerAddress('10.0.0.1', ['1.1.1.1, 203.0.113.7', '10.0.0.2'], trusts)).toBe(
      '203.0.113.7',
    );
  });

  test.each([
    [['203.0.113.7:4711'], '203.0.113.7'],
    [['[2001:db8::1]:4711'], '2001:db8::1'],
    [['[2001:db8::1]'], '2001:db8::1'],
    [['::ffff:203.0.113.7'], '203.0.113.7'],
    [['unknown'], '10.0.0.1'],
    [['203.0.113.7, _hidden, 10.0.0.2'], '10.0.0.2'],
    [[''], '10.0.0.1'],
    [[], '10.0.0.1'],
    [['10.0.0.3'], '10.0.0.3'],
  ])('%s comes from %s', (lines, address) => {
    expect(callerAddress('10.0.0.1', lines, trusts)).toBe(address);
  });

  test('an IPv4 address in IPv6 clothes is the IPv4 address', () => {
    expect(callerAddress('::ffff:10.0.0.1', ['203.0.113.7'], trusts)).toBe('203.0.113.7');
    expect(callerAddress('::FFFF:203.0.113.7', [], trusts)).toBe('203.0.113.7');
    expect(trustOf(['::ffff:10.0.0.1'])('10.0.0.1')).toBe(true);
  });

  test('nobody is trusted by default', () => {
    expect(callerAddress('127.0.0.1', ['203.0.113.7'], trustOf([]))).toBe('127.0.0.1');
  });

  test.each([
    '',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    'localhost',
    '10.0.0',
    'fd00::/129',
    '10.0.0.0/x',
  ])('refuses the range "%s"', (range) => {
    expect(() => trustOf([range])).toThrow(/trustedProxies/);
  });
});

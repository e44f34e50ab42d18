import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { addressKind, embeddedAddresses, inRange, parseRange } from '../src/address.ts';

describe('addressKind', () => {
  test.each([
    '1.1.1.1',
    '8.8.8.8',
    '93.184.216.34',
    '100.63.255.255',
    '100.128.0.0',
    '172.15.255.255',
    '172.32.0.0',
    '168.63.129.15',
    '223.255.255.255',
    '2606:2800:220:1:248:1893:25c8:1946',
    '2a00:1450:4001:81b::200e',
  ])('%s is public', (address) => {
    expect(addressKind(address)).toBe('public');
  });

  test.each([
    ['0.0.0.0', 'unspecified'],
    ['0.1.2.3', 'unspecified'],
    ['10.0.0.1', 'private'],
    ['100.64.0.1', 'carrierGradeNat'],
    ['100.100.100.200', 'carrierGradeNat'],
    ['127.0.0.1', 'loopback'],
    ['127.255.255.254', 'loopback'],
    ['169.254.169.254', 'linkLocal'],
    ['169.254.170.2', 'linkLocal'],
    ['172.16.0.1', 'private'],
    ['172.31.255.255', 'private'],
    ['192.0.0.192', 'reserved'],
    ['192.0.2.1', 'reserved'],
    ['192.88.99.1', 'reserved'],
    ['192.168.1.1', 'private'],
    ['198.18.0.1', 'reserved'],
    ['198.51.100.1', 'reserved'],
    ['203.0.113.1', 'reserved'],
    ['224.0.0.1', 'multicast'],
    ['240.0.0.1', 'reserved'],
    ['255.255.255.255', 'broadcast'],
    ['168.63.129.16', 'cloudMetadata'],
    ['::', 'unspecified'],
    ['::1', 'loopback'],
    ['::127.0.0.1', 'reserved'],
    ['::ffff:127.0.0.1', 'ipv4Mapped'],
    ['::ffff:8.8.8.8', 'ipv4Mapped'],
    ['::ffff:0:127.0.0.1', 'rfc6145'],
    ['64:ff9b::7f00:1', 'rfc6052'],
    ['64:ff9b:1::a00:1', 'rfc6052'],
    ['100::1', 'discard'],
    ['2001::1', 'teredo'],
    ['2001:db8::1', 'reserved'],
    ['2002:7f00:1::1', '6to4'],
    ['2606:2800:220:1:0:5efe:7f00:1', 'isatap'],
    ['2606:2800:220:1:200:5efe:a00:1', 'isatap'],
    ['3fff::1', 'reserved'],
    ['4000::1', 'reserved'],
    ['5f00::1', 'segmentRouting'],
    ['fc00::1', 'uniqueLocal'],
    ['fd00:ec2::254', 'uniqueLocal'],
    ['fe80::1', 'linkLocal'],
    ['fec0::1', 'deprecatedSiteLocal'],
    ['ff02::1', 'multicast'],
  ])('%s is not public but %s', (address, kind) => {
    expect(addressKind(address)).toBe(kind);
  });

  test.each(['', 'localhost', '127.1', '0x7f.0.0.1', 'fe80::1%eth0', '2606:2800::1%1', '1.1.1.1 '])(
    '%j is no address',
    (text) => {
      expect(addressKind(text)).toBe('invalid');
    },
  );

  test('no address outside 2000::/3 is public', () => {
    const part = fc.integer({ min: 0, max: 0xffff });
    fc.assert(
      fc.property(fc.tuple(part, part, part, part, part, part, part, part), (parts) => {
        fc.pre((parts[0] & 0xe000) !== 0x2000);
        const text = parts.map((value) => value.toString(16)).join(':');
        expect(addressKind(text)).not.toBe('public');
      }),
    );
  });
});

describe('embeddedAddresses', () => {
  test.each([
    ['::ffff:10.1.2.3', ['10.1.2.3']],
    ['::10.1.2.3', ['10.1.2.3']],
    ['64:ff9b::10.1.2.3', ['10.1.2.3']],
    ['2002:a01:203::1', ['10.1.2.3']],
    ['2001:0:a01:203:0:0:f5fe:fdfc', ['10.1.2.3', '10.1.2.3']],
    ['2606:2800::5efe:a01:203', ['10.1.2.3']],
    ['2606:2800::1', []],
    ['10.1.2.3', []],
  ])('in %s: %o', (address, expected) => {
    expect(embeddedAddresses(address)).toEqual(expected);
  });
});

describe('parseRange', () => {
  test.each([
    ['10.0.0.0/8', '10.255.255.255', '11.0.0.0'],
    ['192.0.2.7', '192.0.2.7', '192.0.2.8'],
    ['fd00::/8', 'fdff::1', 'fe00::1'],
    ['::1', '::1', '::2'],
    ['0.0.0.0/0', '1.2.3.4', '::1'],
  ])('%s covers %s and not %s', (text, inside, outside) => {
    const range = parseRange(text);
    if (!range) throw new TypeError('a range was expected');
    expect(inRange(inside, range)).toBe(true);
    expect(inRange(outside, range)).toBe(false);
  });

  test.each(['10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '10.0/8', '::/129', 'fe80::1%eth0', 'x'])(
    '%j is not a range',
    (text) => {
      expect(parseRange(text)).toBeUndefined();
    },
  );

  test('bits behind the prefix are a slip', () => {
    expect(() => parseRange('10.1.2.3/8')).toThrow('10.0.0.0/8');
    expect(() => parseRange('fd00::1/8')).toThrow('fd00::/8');
  });
});

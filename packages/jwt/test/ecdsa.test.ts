import { generateKeyPairSync, sign, verify } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { derSignature } from '../src/ecdsa.ts';

/** Reads what {@link derSignature} wrote: two numbers, in the only form DER allows. */
function read(der: Buffer): readonly [bigint, bigint] {
  const long = der[1] === 0x81 ? 1 : 0;
  expect([der[0], der[1 + long]]).toEqual([0x30, der.length - 2 - long]);
  expect(long === 1).toBe(der.length - 2 > 127);
  const numbers: bigint[] = [];
  let at = 2 + long;
  while (at < der.length) {
    const length = der[at + 1] ?? 0;
    const bytes = der.subarray(at + 2, at + 2 + length);
    expect([der[at], bytes.length]).toEqual([0x02, length]);
    expect(bytes[0]).toBeLessThan(0x80);
    if (length > 1 && bytes[0] === 0) expect(bytes[1]).toBeGreaterThan(0x7f);
    numbers.push(BigInt(`0x${bytes.toString('hex')}`));
    at += 2 + length;
  }
  expect(numbers).toHaveLength(2);
  return numbers as unknown as readonly [bigint, bigint];
}

describe('derSignature', () => {
  it('writes both numbers, whatever they are, in the only form DER allows', () => {
    const byte = fc.oneof(fc.constantFrom(0, 0, 0x7f, 0x80, 0xff), fc.nat(255));
    const half = (size: number) => fc.array(byte, { minLength: size, maxLength: size });
    const signature = fc.constantFrom(32, 48, 66).chain((size) => fc.tuple(half(size), half(size)));
    fc.assert(
      fc.property(signature, ([r, s]) => {
        const number = (bytes: number[]) => BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
        expect(read(derSignature(Buffer.from([...r, ...s])))).toEqual([number(r), number(s)]);
      }),
      { numRuns: 1000 },
    );
  });

  it.each(['P-256', 'P-384', 'P-521'])('makes signatures of %s that verify', (namedCurve) => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve });
    for (let each = 0; each < 50; each += 1) {
      const data = Buffer.from([each]);
      const raw = sign('sha256', data, { key: privateKey, dsaEncoding: 'ieee-p1363' });
      expect(verify('sha256', data, publicKey, derSignature(raw))).toBe(true);
    }
  });
});

import { createHmac, createSecretKey } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hmacSha256 } from '../src/hmac.ts';

const sign = (key: Uint8Array, text: string) => hmacSha256(createSecretKey(key))(text);
const hex = (text: string) => Buffer.from(text, 'hex');

describe('hmacSha256', () => {
  // RFC 4231 §4: the cases whose data is text.
  it.each([
    [
      '4.2',
      Buffer.alloc(20, 0x0b),
      'Hi There',
      'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7',
    ],
    [
      '4.3',
      Buffer.from('Jefe'),
      'what do ya want for nothing?',
      '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
    ],
    [
      '4.7',
      Buffer.alloc(131, 0xaa),
      'Test Using Larger Than Block-Size Key - Hash Key First',
      '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54',
    ],
    [
      '4.8',
      Buffer.alloc(131, 0xaa),
      'This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.',
      '9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2',
    ],
  ])('computes the test case of RFC 4231 §%s', (_, key, text, expected) => {
    expect(sign(key, text)).toBe(hex(expected).toString('base64url'));
  });

  it('equals createHmac for every key and text', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 200 }),
        fc.array(fc.string({ unit: 'binary', maxLength: 500 }), { minLength: 1, maxLength: 4 }),
        (key, texts) => {
          const digest = hmacSha256(createSecretKey(key));
          // One after the other with the same function: nothing of one text may be left in the digest of the next.
          for (const text of texts) {
            expect(digest(text)).toBe(createHmac('sha256', key).update(text).digest('base64url'));
          }
        },
      ),
    );
  });

  it('refuses a text it has no room for, rather than cutting it', () => {
    const digest = hmacSha256(createSecretKey(Buffer.alloc(32)));
    expect(digest('x'.repeat(2048))).toHaveLength(43);
    expect(() => digest('x'.repeat(2049))).toThrow(RangeError);
    expect(() => digest('\u00e9'.repeat(1025))).toThrow(RangeError);
  });
});

import { createHmac, createSecretKey } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hmacSha256 } from '../src/hmac.ts';

const encodings = ['base64', 'hex'] as const;

describe('hmacSha256', () => {
  // RFC 4231 §4: keys shorter than, equal to and longer than a block.
  it.each([
    [
      '0b'.repeat(20),
      Buffer.from('Hi There'),
      'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7',
    ],
    [
      'aa'.repeat(20),
      Buffer.alloc(50, 0xdd),
      '773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe',
    ],
    [
      'aa'.repeat(131),
      Buffer.from('Test Using Larger Than Block-Size Key - Hash Key First'),
      '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54',
    ],
  ])('computes the known answers of RFC 4231 (key %s)', (key, message, expected) => {
    expect(hmacSha256(createSecretKey(Buffer.from(key, 'hex')))('', message, 'hex')).toBe(expected);
  });

  it('is createHmac, for every key, prefix and body', () => {
    const bodies = fc.oneof(
      fc.uint8Array({ maxLength: 4000 }),
      fc.string({ unit: 'binary', maxLength: 2000 }),
      // Halves of surrogate pairs: both write U+FFFD.
      fc
        .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 200 })
        .map((units) => String.fromCharCode(...units)),
    );
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 16, maxLength: 200 }),
        fc.string({ unit: 'binary' }),
        bodies,
        fc.constantFrom(...encodings),
        (raw, prefix, body, encoding) => {
          const key = createSecretKey(raw);
          const expected = createHmac('sha256', key)
            .update(prefix, 'utf8')
            .update(body)
            .digest(encoding);
          expect(hmacSha256(key)(prefix, body, encoding)).toBe(expected);
        },
      ),
    );
  });

  it.each([63, 64, 65, 100])(
    'is createHmac where a key stops fitting in a block: %i bytes',
    (size) => {
      const key = createSecretKey(Buffer.alloc(size, 1));
      const expected = createHmac('sha256', key).update('id.1.body').digest('hex');
      expect(hmacSha256(key)('id.1.', 'body', 'hex')).toBe(expected);
    },
  );

  it.each([16_383, 16_384, 16_385, 100_000])(
    'is createHmac where the body stops fitting in its room: %i bytes',
    (size) => {
      const key = createSecretKey(Buffer.alloc(32, 1));
      const hmac = hmacSha256(key);
      for (const body of [
        Buffer.alloc(size, 0xff),
        'ü'.repeat(size / 2),
        '€'.repeat(size / 3),
        'x'.repeat(size),
      ]) {
        for (const prefix of ['', 'id.1.', '€']) {
          const expected = createHmac('sha256', key).update(prefix).update(body).digest('hex');
          expect(hmac(prefix, body, 'hex')).toBe(expected);
        }
      }
    },
  );

  it('keeps two keys that take turns apart', () => {
    const keys = [1, 2].map((fill) => createSecretKey(Buffer.alloc(32, fill)));
    const hmacs = keys.map(hmacSha256);
    for (const body of ['a longer body', 'short']) {
      const expected = keys.map((key) => createHmac('sha256', key).update(body).digest('hex'));
      expect(hmacs.map((hmac) => hmac('', body, 'hex'))).toEqual(expected);
    }
  });
});

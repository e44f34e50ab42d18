import fc from 'fast-check';
import { parseItem, serializeItem } from 'structured-headers';
import { describe, expect, test } from 'vitest';
import { parseIdempotencyKey } from '../src/key.ts';

const malformed = expect.objectContaining({ code: 'ERR_IDEMPOTENCY_KEY_MALFORMED' });
const printable = fc.string({
  unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
  minLength: 1,
  maxLength: 255,
});

describe('a quoted key', () => {
  test('is a structured-field String', () => {
    fc.assert(
      fc.property(printable, (key) => {
        expect(parseIdempotencyKey(serializeItem(key))).toBe(key);
      }),
    );
  });

  test('is read as RFC 9651 reads it, or refused', () => {
    const noise = fc.string({
      unit: fc.constantFrom('"', '\\', 'a', ' ', '\t', '\x7f', 'é', ';', ',', '1', ':', '?'),
      maxLength: 8,
    });
    fc.assert(
      fc.property(noise, (text) => {
        const expected = stringIn(text);
        const parse = (): string => parseIdempotencyKey(text, { unquoted: false });
        if (expected === undefined || expected === '') expect(parse).toThrow(malformed);
        else expect(parse()).toBe(expected);
      }),
      { numRuns: 5000 },
    );
  });

  test('may hold escaped quotes and backslashes, and nothing else escaped', () => {
    expect(parseIdempotencyKey('"a\\"b\\\\c"')).toBe('a"b\\c');
    expect(() => parseIdempotencyKey('"a\\bc"')).toThrow(malformed);
  });

  test('holds printable ASCII only', () => {
    for (const text of ['"\x1f"', '"\x7f"', '"é"', '"\t"']) {
      expect(() => parseIdempotencyKey(text)).toThrow(malformed);
    }
  });

  test('has 1 to 255 characters', () => {
    expect(parseIdempotencyKey(`"${'a'.repeat(255)}"`)).toHaveLength(255);
    expect(parseIdempotencyKey(`"${'\\"'.repeat(255)}"`)).toHaveLength(255);
    expect(() => parseIdempotencyKey(`"${'a'.repeat(256)}"`)).toThrow(malformed);
    expect(() => parseIdempotencyKey('""')).toThrow(malformed);
  });

  test('has no parameters', () => {
    expect(() => parseIdempotencyKey('"a";v=1')).toThrow(malformed);
  });
});

describe('an unquoted key', () => {
  test.each([
    '8e03978e-40d5-43dd-bc93-6894a57f9324',
    '01ARZ3NDEKTSV4RRFFQ69G5FAV',
    'KG5LxwFBepaKHyUD',
    'dGhlIGtleQ==',
    'order:1/attempt~2',
    '12345',
  ])('is the same as the quoted one: %s', (key) => {
    expect(parseIdempotencyKey(key)).toBe(parseIdempotencyKey(`"${key}"`));
  });

  test.each(['', 'a b', 'a,b', 'a, b', 'a;b', "'a'", 'é', 'a\nb', '"a', 'a"'])(
    'is refused when it may be something else: %j',
    (text) => {
      expect(() => parseIdempotencyKey(text)).toThrow(malformed);
    },
  );

  test('is refused on request', () => {
    expect(() => parseIdempotencyKey('abc', { unquoted: false })).toThrow(malformed);
  });

  test('is bounded too', () => {
    expect(() => parseIdempotencyKey('a'.repeat(256))).toThrow(malformed);
  });
});

test.each([undefined, null, 7, ['"a"']])('what is no text is no key: %j', (value) => {
  expect(() => parseIdempotencyKey(value as never)).toThrow(malformed);
});

test('the error does not repeat the key', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 12 }), (text) => {
      try {
        parseIdempotencyKey(text);
      } catch (error) {
        expect(String(error)).not.toContain(text);
      }
    }),
  );
});

/** What an independent parser makes of it: the String without parameters, or undefined. */
function stringIn(text: string): string | undefined {
  try {
    const [value, parameters] = parseItem(text);
    return typeof value === 'string' && parameters.size === 0 ? value : undefined;
  } catch {
    return undefined;
  }
}

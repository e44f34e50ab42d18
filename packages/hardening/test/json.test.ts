import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { HardeningError } from '../src/errors.ts';
import { inputBounds, measureValue, parseJson } from '../src/json.ts';
import { refusal } from './refusal.ts';

const bounds = inputBounds({});

describe('parseJson', () => {
  test('reads what JSON.parse reads', () => {
    fc.assert(
      fc.property(fc.json({ noUnicodeString: false, maxDepth: 5 }), (text) => {
        const isRefused = text.includes('__proto__') || text.includes('prototype');
        fc.pre(!isRefused);
        const roomy = inputBounds({ maxBytes: 1e6, maxDepth: 200, maxKeys: 1e5 });
        expect(parseJson(text, roomy)).toEqual(JSON.parse(text));
        expect(parseJson(Buffer.from(text), roomy)).toEqual(JSON.parse(text));
      }),
    );
  });

  test('refuses whatever is no JSON with a code, and without quoting it', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), jsonLike()), (text) => {
        let expected: unknown;
        try {
          expected = JSON.parse(text);
        } catch {
          const error = refusal(() => parseJson(text, bounds));
          expect(error.code).toMatch(/^ERR_HARDENING_INPUT_/);
          expect(error.cause).toBeUndefined();
          return;
        }
        try {
          expect(parseJson(text, bounds)).toEqual(expected);
        } catch (error) {
          expect(error).toBeInstanceOf(HardeningError);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test.each([
    ['nothing', ''],
    ['a byte order mark', '\u{feff}{}'],
    ['two values', '{}{}'],
    ['a comment', '{}//'],
    ['NaN', 'NaN'],
    ['a name twice', '{"a":1,"a":2}'],
    ['a name twice, once escaped', '{"a":1,"\\u0061":2}'],
    ['a name twice, far inside', '[{"x":{"a":1,"b":[{}],"a":2}}]'],
    ['__proto__', '{"__proto__":{"isAdmin":true}}'],
    ['__proto__, escaped', '{"\\u005f_proto__":{"isAdmin":true}}'],
    ['constructor.prototype', '{"constructor":{"prototype":{"isAdmin":true}}}'],
    ['an open string', '{"a'],
    ['an escape that is none', '{"\\x61":1}'],
  ])('refuses %s as malformed', (_, text) => {
    expect(refusal(() => parseJson(text, bounds)).code).toBe('ERR_HARDENING_INPUT_MALFORMED');
  });

  test('knows where a string ends', () => {
    const tight = inputBounds({ maxDepth: 2, maxKeys: 2 });
    for (const [text, code] of [
      [String.raw`["\\",[[]]]`, 'TOO_DEEP'],
      [String.raw`{"a":"\\","b":1,"c":2}`, 'TOO_MANY_KEYS'],
      [String.raw`{"a\\":1,"a\\":2}`, 'MALFORMED'],
    ] as const) {
      const error = refusal(() => parseJson(text, tight));
      expect(error.code).toBe(`ERR_HARDENING_INPUT_${code}`);
      expect(JSON.parse(text)).toBeDefined();
    }
    const quoted = String.raw`["\\\"[[[","\"{{{\\"]`;
    expect(parseJson(quoted, tight)).toEqual(JSON.parse(quoted));
  });

  test('refuses a byte order mark in bytes as well', () => {
    const error = refusal(() => parseJson(Buffer.from('\u{feff}{}'), bounds));
    expect(error.code).toBe('ERR_HARDENING_INPUT_MALFORMED');
  });

  test('refuses bytes that are not UTF-8', () => {
    for (const bytes of [
      [0x22, 0xff, 0x22],
      [0x22, 0xc0, 0x80, 0x22],
      [0x22, 0xed, 0xa0, 0x80, 0x22],
    ]) {
      const error = refusal(() => parseJson(Uint8Array.from(bytes), bounds));
      expect(error.code).toBe('ERR_HARDENING_INPUT_MALFORMED');
    }
  });

  test('lets names be that only look dangerous', () => {
    const text =
      '{"constructor":"Ferrari","prototype":{"a":1},"a":{"a":{}},"b":"\\"__proto__\\":","c":[",","{"]}';
    expect(parseJson(text, bounds)).toEqual(JSON.parse(text));
  });

  test('counts names of all objects together, and only names', () => {
    const tight = inputBounds({ maxKeys: 3 });
    expect(parseJson('{"a":["x","y","z",{"b":"c"}],"d":"e"}', tight)).toBeDefined();
    const error = refusal(() => parseJson('{"a":[{"b":1},{"b":1},{"b":1}]}', tight));
    expect(error.code).toBe('ERR_HARDENING_INPUT_TOO_MANY_KEYS');
  });

  test('counts depth, and nothing in strings', () => {
    const tight = inputBounds({ maxDepth: 2 });
    expect(parseJson('[["[[[[{{{{",{}],[[]]]'.replace(',{}],[[]]', '],[]'), tight)).toBeDefined();
    for (const text of ['[[[]]]', '[{"a":{}}]', '{"\\"]":[[1]]}']) {
      expect(refusal(() => parseJson(text, tight)).code).toBe('ERR_HARDENING_INPUT_TOO_DEEP');
    }
  });

  test('counts bytes, not characters', () => {
    const tight = inputBounds({ maxBytes: 6 });
    expect(parseJson('"éé"', tight)).toBe('éé');
    for (const body of ['"ééx"', Buffer.from('"ééx"'), '"é€"']) {
      expect(refusal(() => parseJson(body, tight)).code).toBe('ERR_HARDENING_INPUT_TOO_LARGE');
    }
  });
});

describe('measureValue', () => {
  test('holds values that somebody else has parsed to the same bounds', () => {
    const codeOf = (value: unknown): string => refusal(() => measureValue(value, bounds)).code;
    const cyclic: Record<string, unknown> = {};
    cyclic['self'] = cyclic;
    expect(codeOf(cyclic)).toBe('ERR_HARDENING_INPUT_TOO_DEEP');
    expect(codeOf({ a: 'x'.repeat(102_400) })).toBe('ERR_HARDENING_INPUT_TOO_LARGE');
    expect(codeOf(Array.from({ length: 200_000 }, () => 0))).toBe('ERR_HARDENING_INPUT_TOO_LARGE');
    const many = Object.fromEntries(Array.from({ length: 1001 }, (_, index) => [`k${index}`, 1]));
    expect(codeOf(many)).toBe('ERR_HARDENING_INPUT_TOO_MANY_KEYS');
    for (const text of ['{"a":[{"__proto__":1}]}', '{"constructor":{"prototype":1}}']) {
      expect(codeOf(JSON.parse(text))).toBe('ERR_HARDENING_INPUT_MALFORMED');
    }
    expect(() => measureValue({ constructor: [{ prototype: 1 }] }, bounds)).not.toThrow();
  });

  test('never refuses what parseJson lets pass', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        let value: unknown;
        try {
          value = parseJson(text, bounds);
        } catch {
          fc.pre(false);
        }
        measureValue(value, bounds);
      }),
    );
  });
});

test.each([
  { maxBytes: 0 },
  { maxDepth: 1.5 },
  { maxDepth: 201 },
  { maxKeys: Number.POSITIVE_INFINITY },
])('refuses bounds such as %j', (options) => {
  expect(() => inputBounds(options)).toThrow(TypeError);
});

/** Texts made of the pieces of JSON. */
function jsonLike(): fc.Arbitrary<string> {
  return fc
    .array(
      fc.constantFrom(...'{}[],:"\\'.split(''), '"a"', '"a":', '1', 'null', '\\u', '\\"', ' '),
      {
        maxLength: 30,
      },
    )
    .map((pieces) => pieces.join(''));
}

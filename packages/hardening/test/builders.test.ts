import fc from 'fast-check';
import { describe, expect, expectTypeOf, test } from 'vitest';
import type * as z from 'zod';
import { list } from '../src/list.ts';
import { num } from '../src/num.ts';
import { page } from '../src/page.ts';
import { queryText, text } from '../src/text.ts';

describe('text', () => {
  test('drops white space around, and takes up to 10,000 characters', () => {
    expect(text().parse(' a b\n')).toBe('a b');
    expect(text({ trim: false }).parse(' a ')).toBe(' a ');
    expect(text().parse('x'.repeat(10_000))).toHaveLength(10_000);
    expect(codes(text(), 'x'.repeat(10_001))).toEqual(['too_big']);
    expect(codes(queryText(), 'x'.repeat(501))).toEqual(['too_big']);
    expect(codes(text({ min: 2 }), ' a ')).toEqual(['too_small']);
  });

  test('counts the bytes of what was sent, white space included', () => {
    expect(text({ max: 10 }).parse(`${' '.repeat(39)}a`)).toBe('a');
    expect(codes(text({ max: 10 }), `${' '.repeat(40)}a`)).toEqual(['too_many_bytes']);
    expect(codes(text(), ' '.repeat(40_001))).toEqual(['too_many_bytes']);
    expect(text({ max: 10, maxBytes: 6 }).parse('€€')).toBe('€€');
    expect(codes(text({ max: 10, maxBytes: 6 }), '€€x')).toEqual(['too_many_bytes']);
  });

  test.each(['a\0b', '\0', '\ud800', 'a\udc00b', '\udfff\ud800'])('refuses %j', (value) => {
    expect(codes(text(), value)).toEqual(['invalid_characters']);
  });

  test.each([undefined, null, 1, true, {}, [], ['a'], new String('a')])('refuses %j', (value) => {
    expect(codes(text(), value)).toEqual(['invalid_type']);
  });

  test('measures before a pattern runs, its own or one that is added', () => {
    for (const build of [
      (pattern: RegExp) => text({ max: 5, pattern }),
      (pattern: RegExp) => text({ max: 5 }).regex(pattern),
    ]) {
      const pattern = /^[a-z]+$/;
      const seen: string[] = [];
      const exec = pattern.exec.bind(pattern);
      pattern.exec = (value) => {
        seen.push(value);
        return exec(value);
      };
      const schema = build(pattern);
      expect(codes(schema, 'aaaaaa')).toEqual(['too_big']);
      expect(codes(schema, 'a\0')).toEqual(['invalid_characters']);
      expect(seen).toEqual([]);
      expect(schema.parse('abc')).toBe('abc');
      expect(seen).toEqual(['abc']);
    }
  });

  test.each([/^(a+)+$/, /^(\w+\s?)*$/, /\s+$/, /^(?=a)b$/, /^(.)\1$/])(
    'refuses to be built with %s',
    (pattern) => {
      expect(() => text({ pattern })).toThrow(/^text: pattern .*(may take|exponential)/);
    },
  );

  test.each([
    [{ max: 0.5 }, 'max'],
    [{ min: -1 }, 'min'],
    [{ min: 5, max: 4 }, 'max'],
    [{ max: Number.POSITIVE_INFINITY }, 'max'],
    [{ maxBytes: 0 }, 'maxBytes'],
    [{ pattern: /a/g }, 'pattern'],
    [{ pattern: 'a' as never }, 'pattern'],
    [{ maxLength: 5 } as never, 'unknown option "maxLength"'],
  ])('refuses to be built with %j', (options, named) => {
    expect(() => text(options)).toThrow(TypeError);
    expect(() => text(options)).toThrow(`text: ${named}`);
  });

  test('lets through only what is bounded and well-formed', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 50 }), (value) => {
        const { success, data } = text({ max: 20 }).safeParse(value);
        const trimmed = value.trim();
        const isGood = trimmed.length <= 20 && !trimmed.includes('\0') && trimmed.isWellFormed();
        expect(success).toBe(isGood);
        if (success) expect(data).toBe(trimmed);
      }),
    );
  });
});

describe('num', () => {
  const amount = num({ min: 0, max: 1000 });

  test.each([0, 0.5, 1000])('takes %d', (value) => {
    expect(amount.parse(value)).toBe(value);
  });

  test.each([
    '',
    '5',
    null,
    undefined,
    false,
    true,
    [],
    [5],
    {},
    new Date(5),
    5n,
    -0.001,
    1000.001,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    JSON.parse('1e400'),
  ])('refuses %o', (value) => {
    expect(amount.safeParse(value).success).toBe(false);
  });

  test('takes only integers that are exact where integers are wanted', () => {
    const count = num({ min: 0, max: Number.MAX_SAFE_INTEGER, integer: true });
    expect(count.parse(Number.MAX_SAFE_INTEGER)).toBe(Number.MAX_SAFE_INTEGER);
    expect(count.safeParse(JSON.parse('9007199254740993')).success).toBe(false);
    expect(count.safeParse(0.5).success).toBe(false);
  });

  test('knows one zero', () => {
    const amount = num({ min: -1, max: 1 });
    expect(amount.parse(JSON.parse('-0'))).toBe(0);
    expect(num({ min: 0, max: 1, integer: true }).parse(-0)).toBe(0);
    expect(amount.parse(-0.5)).toBe(-0.5);
  });

  test('reads canonical decimals from text, when told to', () => {
    const fromText = num({ min: -100, max: 100, from: 'text' });
    for (const [value, number] of [
      ['0', 0],
      ['-12.5', -12.5],
      ['100', 100],
      ['0.10', 0.1],
      ['-0', 0],
    ] as const) {
      expect(fromText.parse(value)).toBe(number);
    }
    const bad = [
      '',
      ' ',
      ' 1',
      '1 ',
      '+1',
      '01',
      '1.',
      '.5',
      '1e1',
      '0x10',
      '1_0',
      '1,5',
      '١',
      'NaN',
      'Infinity',
      '--1',
    ];
    for (const value of [...bad, '101', '1'.repeat(33), 5, null, ['5']]) {
      expect(fromText.safeParse(value).success).toBe(false);
    }
  });

  test.each([
    {},
    { min: 0 },
    { max: 0 },
    { min: 1, max: 0 },
    { min: 0, max: Number.POSITIVE_INFINITY },
    { min: Number.NaN, max: 1 },
    { min: 0.5, max: 1, integer: true },
    { min: 0, max: 1, from: 'json' },
    { min: 0, max: 1, int: true },
  ])('refuses to be built with %j', (options) => {
    expect(() => num(options as never)).toThrow(TypeError);
  });
});

describe('list', () => {
  test('counts before it looks at an item', () => {
    let looked = 0;
    const item = text().refine(() => {
      looked += 1;
      return true;
    });
    expect(
      codes(
        list(item),
        Array.from({ length: 101 }, () => 'a'),
      ),
    ).toEqual(['too_big']);
    expect(looked).toBe(0);
    expect(list(item).parse(['a', ' b '])).toEqual(['a', 'b']);
    expect(looked).toBe(2);
    expect(codes(list(item, { min: 1 }), [])).toEqual(['too_small']);
  });

  test('validates each item', () => {
    const { error } = list(num({ min: 0, max: 9 })).safeParse([1, 10, '3']);
    expect(error?.issues.map(({ path }) => path)).toEqual([[1], [2]]);
  });

  test.each([{ max: -1 }, { min: 2, max: 1 }, { max: 1.5 }, { maximum: 5 }])(
    'refuses to be built with %j',
    (options) => {
      expect(() => list(text(), options as never)).toThrow(TypeError);
    },
  );
});

describe('page', () => {
  test('has 20 items unless said, at most 100', () => {
    expect(page().parse({})).toEqual({ size: 20 });
    expect(page().parse({ size: '100', cursor: 'abc_-=' })).toEqual({
      size: 100,
      cursor: 'abc_-=',
    });
    for (const size of ['0', '101', '-1', '1.5', '', '1e1', 20]) {
      expect(page().safeParse({ size }).success).toBe(false);
    }
    for (const cursor of ['', 'a b', 'x'.repeat(201), "' OR 1=1"]) {
      expect(page().safeParse({ cursor }).success).toBe(false);
    }
    expect(page().safeParse({ offset: '1' }).success).toBe(false);
  });

  test('bounds how much may be skipped', () => {
    expect(page({ by: 'offset' }).parse({})).toEqual({ size: 20, offset: 0 });
    expect(page({ by: 'offset' }).parse({ offset: '10000' }).offset).toBe(10_000);
    expect(page({ by: 'offset' }).safeParse({ offset: '10001' }).success).toBe(false);
  });

  test.each([
    { size: 0 },
    { size: 101 },
    { maxSize: 10 },
    { by: 'token' },
    { maxOffset: 5 },
    { limit: 5 },
  ])('refuses to be built with %j', (options) => {
    expect(() => page(options as never)).toThrow(TypeError);
  });
});

test('the builders say what comes out', () => {
  expectTypeOf<z.output<ReturnType<typeof text>>>().toEqualTypeOf<string>();
  const size = num({ min: 0, max: 1, from: 'text' });
  expectTypeOf<z.output<typeof size>>().toEqualTypeOf<number>();
  expectTypeOf<z.input<typeof size>>().toEqualTypeOf<string>();
  const names = list(text());
  expectTypeOf<z.output<typeof names>>().toEqualTypeOf<string[]>();
  const byCursor = page();
  expectTypeOf<z.output<typeof byCursor>>().toEqualTypeOf<{
    size: number;
    cursor?: string | undefined;
  }>();
  const byOffset = page({ by: 'offset' });
  expectTypeOf<z.output<typeof byOffset>>().toEqualTypeOf<{ size: number; offset: number }>();
});

/** The rules that a value breaks. */
function codes(schema: z.ZodType, value: unknown): readonly string[] {
  const { error } = schema.safeParse(value);
  return (error?.issues ?? []).map((issue) =>
    issue.code === 'custom' ? String(issue.params?.['code']) : issue.code,
  );
}

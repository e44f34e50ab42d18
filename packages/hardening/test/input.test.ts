import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import fc from 'fast-check';
import { describe, expect, expectTypeOf, test } from 'vitest';
import * as z from 'zod';
import { HardeningError } from '../src/errors.ts';
import type { HardeningEvents } from '../src/events.ts';
import { input } from '../src/input.ts';
import { list } from '../src/list.ts';
import { num } from '../src/num.ts';
import { page } from '../src/page.ts';
import { text } from '../src/text.ts';
import { refusal } from './refusal.ts';

const order = input(
  z.object({
    name: text({ max: 50 }),
    amount: num({ min: 0, max: 1000 }),
    tags: list(text({ max: 10 })).optional(),
    lines: list(
      z.object({ sku: text({ max: 20 }), count: num({ min: 1, max: 9, integer: true }) }),
    ),
  }),
);
const good = { name: 'a', amount: 5, lines: [{ sku: 'x', count: 1 }] };

describe('input', () => {
  test('reads bytes and texts, and takes values that are parsed', () => {
    expect(order.parse(JSON.stringify(good))).toEqual(good);
    expect(order.parse(Buffer.from(JSON.stringify(good)))).toEqual(good);
    expect(order.check(good)).toEqual(good);
  });

  test('says what comes out', () => {
    type Order = ReturnType<typeof order.parse>;
    expectTypeOf<Order['amount']>().toEqualTypeOf<number>();
    expectTypeOf<Order['tags']>().toEqualTypeOf<string[] | undefined>();
    expectTypeOf<Order['lines']>().toEqualTypeOf<{ sku: string; count: number }[]>();
    expectTypeOf(order.check).parameter(0).toBeUnknown();
  });

  test('refuses unknown keys at every level, and names them', () => {
    const sent = { ...good, x: 1, lines: [{ sku: 'x', count: 1, price: 0 }] };
    const { code, errors } = refusal(() => order.parse(JSON.stringify(sent)));
    expect(code).toBe('ERR_HARDENING_INPUT_INVALID');
    expect(errors).toEqual([
      { pointer: '#/lines/0/price', code: 'unrecognized_keys', detail: 'is not known' },
      { pointer: '#/x', code: 'unrecognized_keys', detail: 'is not known' },
    ]);
  });

  test('names each field and rule, and no value', () => {
    const sent = {
      name: 'secret'.repeat(20),
      amount: 4711,
      lines: [{ sku: 7, count: 0.5 }],
      tags: 'hidden',
    };
    const error = refusal(() => order.check(sent));
    expect(error.errors).toEqual([
      { pointer: '#/name', code: 'too_big', detail: 'must be at most 50 characters long' },
      { pointer: '#/amount', code: 'too_big', detail: 'must be at most 1000' },
      { pointer: '#/tags', code: 'invalid_type', detail: 'must be of type array' },
      { pointer: '#/lines/0/sku', code: 'invalid_type', detail: 'must be of type string' },
      { pointer: '#/lines/0/count', code: 'invalid_type', detail: 'must be of type int' },
    ]);
    expect(JSON.stringify([error, error.message, error.stack])).not.toMatch(/secret|4711|hidden/);
    expect(error.cause).toBeUndefined();
  });

  test('lets a check of your own name its rule, but not speak', () => {
    const even = input(
      num({ min: 0, max: 9 })
        .refine((value) => value % 2 === 0, {
          error: (issue) => `odd: ${String(issue.input)}`,
          params: { code: 'odd' },
        })
        .refine(() => false, { params: { code: 'Has "quotes"' }, message: 'never said' }),
    );
    expect(refusal(() => even.parse('3')).errors).toEqual([
      { pointer: '#', code: 'odd', detail: 'is not valid' },
      { pointer: '#', code: 'custom', detail: 'is not valid' },
    ]);
  });

  test('says ten things at most, each short', () => {
    const keys = Array.from({ length: 900 }, (_, index) => [`${'k'.repeat(80)}€/~${index}`, 1]);
    const { errors } = refusal(() =>
      order.parse(JSON.stringify({ ...good, ...Object.fromEntries(keys) })),
    );
    expect(errors).toHaveLength(10);
    expect(errors[0]?.pointer.length).toBeLessThanOrEqual(66);
    expect(JSON.stringify(errors).length).toBeLessThan(2000);
  });

  test('names what cannot be written as well', () => {
    const { errors } = refusal(() => order.parse('{"\\ud800":1}'));
    expect(errors.at(-1)?.pointer).toBe('#/%EF%BF%BD');
    const halved = refusal(() => order.check({ ...good, ['\u{1f600}'.repeat(40)]: 1 }));
    expect(decodeURIComponent(halved.errors[0]?.pointer ?? '')).toMatch(/^#\/(\u{1f600})+…$/u);
  });

  test('validates the deepest input that it may be told to take', () => {
    const tree: z.ZodType = z.lazy(() =>
      z.object({ either: z.union([z.null(), list(tree), tree]).optional() }),
    );
    const deepest = input(tree, { maxDepth: 200 });
    const body = `${'{"either":'.repeat(200)}null${'}'.repeat(200)}`;
    expect(JSON.stringify(deepest.parse(body))).toBe(body);
    expect(refusal(() => deepest.parse(`{"either":${body}}`)).code).toBe(
      'ERR_HARDENING_INPUT_TOO_DEEP',
    );
  });

  test('refuses a schema that is not bounded when it is built', () => {
    expect(() => input(z.object({ name: z.string() }))).toThrow('#/name: string without a maximum');
  });

  test.each([
    { maxBytes: 0 },
    { maxDepth: -1 },
    { maxKeys: 0.5 },
    { maxQueryText: 0 },
    { depth: 5 },
  ])('refuses to be built with %j', (options) => {
    expect(() => input(text(), options as never)).toThrow(TypeError);
  });

  test('reports what it refused, without values', () => {
    const seen: HardeningEvents['input-refused'][] = [];
    const listener = (message: unknown): void => {
      seen.push(message as HardeningEvents['input-refused']);
    };
    subscribe('countersign:hardening:input-refused', listener);
    refusal(() => order.parse('{"name":"secret"'));
    refusal(() => order.check({ ...good, amount: 4711 }));
    unsubscribe('countersign:hardening:input-refused', listener);
    expect(seen).toEqual([
      { code: 'ERR_HARDENING_INPUT_MALFORMED', errors: [] },
      {
        code: 'ERR_HARDENING_INPUT_INVALID',
        errors: [{ pointer: '#/amount', code: 'too_big', detail: 'must be at most 1000' }],
      },
    ]);
  });
});

describe('parseQuery', () => {
  const search = input(
    page().extend({
      q: text({ max: 5000 }),
      tag: list(text({ max: 10 })).optional(),
    }),
  );
  const read = (query: string): unknown => search.parseQuery(new URLSearchParams(query));

  test('reads texts, lists and numbers', () => {
    expect(read('q=a&tag=x')).toEqual({ q: 'a', size: 20, tag: ['x'] });
    expect(read('q=a&tag=x&tag=y&size=5')).toEqual({ q: 'a', size: 5, tag: ['x', 'y'] });
  });

  test('refuses a parameter that is given twice', () => {
    const { errors } = refusal(() => read('q=a&q=b'));
    expect(errors).toEqual([{ pointer: '#/q', code: 'duplicate', detail: 'must be given once' }]);
  });

  test('bounds each text at 500 characters, whatever the schema says', () => {
    expect(read(`q=${'a'.repeat(500)}`)).toMatchObject({ size: 20 });
    const { errors } = refusal(() => read(`q=${'a'.repeat(501)}`));
    expect(errors[0]).toMatchObject({ pointer: '#/q', code: 'too_big' });
  });

  test.each([
    'q=a&x=1',
    'q=a&__proto__=1',
    'q=a&constructor=1',
    'q=a&toString=1&toString=2',
    'q=a&q[b]=1',
    'size=5',
    'q=a&size=',
    'q=a&size=1e1',
    'q=%00',
  ])('refuses %s', (query) => {
    expect(refusal(() => read(query)).code).toMatch(/^ERR_HARDENING_INPUT_(INVALID|MALFORMED)$/);
  });

  test('bounds the number of parameters', () => {
    const many = Array.from({ length: 1001 }, () => 'tag=a').join('&');
    expect(refusal(() => read(many)).code).toBe('ERR_HARDENING_INPUT_TOO_MANY_KEYS');
  });

  test('reads or refuses whatever is in a query', () => {
    const names = fc.oneof(
      fc.constantFrom('q', 'tag', 'size', 'cursor', '__proto__', 'constructor', 'toString'),
      fc.string({ unit: 'binary' }),
    );
    const values = fc.oneof(
      fc.constantFrom('a', '5', '0', '1e9', ''),
      fc.string({ unit: 'binary' }),
    );
    const known = ['q', 'tag', 'size', 'cursor'];
    fc.assert(
      fc.property(fc.array(fc.tuple(names, values), { maxLength: 6 }), (pairs) => {
        try {
          const value = search.parseQuery(new URLSearchParams(pairs));
          expect(Object.keys(value).filter((name) => !known.includes(name))).toEqual([]);
          expect(value.size).toBeLessThanOrEqual(100);
          expect(pairs.filter(([name]) => name === 'q')).toHaveLength(1);
        } catch (error) {
          if (!(error instanceof HardeningError)) throw error;
          expect(JSON.stringify(error.errors).length).toBeLessThan(4000);
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('needs an object', () => {
    expect(() => input(text()).parseQuery(new URLSearchParams('a=b'))).toThrow(TypeError);
  });
});

describe('whatever is sent', () => {
  const schema = z.object({
    name: text({ max: 20, pattern: /^[a-z]+$/ }),
    at: num({ min: 0, max: 9, from: 'text' }).optional(),
    kind: z.discriminatedUnion('t', [
      z.object({ t: z.literal('a'), n: num({ min: 0, max: 9 }) }),
      z.object({ t: z.literal('b'), s: text({ max: 5 }).nullable().default(null) }),
    ]),
    more: z.record(text({ max: 5 }), z.union([z.boolean(), list(text({ max: 5 }))])).optional(),
  });
  const bounded = input(schema);

  test('is read or refused with a code and a short reason: nothing crashes, nothing is echoed at length', () => {
    const anything = fc.oneof(
      fc.json().map((json) => Buffer.from(json)),
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      fc.string({ unit: 'binary', maxLength: 200 }).map((value) => Buffer.from(value)),
      hostile().map((value) => Buffer.from(JSON.stringify(value) ?? '')),
    );
    fc.assert(
      fc.property(anything, (bytes) => {
        try {
          const value = bounded.parse(bytes);
          expect(schema.safeParse(JSON.parse(bytes.toString())).data).toEqual(value);
        } catch (error) {
          if (!(error instanceof HardeningError)) throw error;
          expect(error.errors.length).toBeLessThanOrEqual(10);
          for (const { pointer, code, detail } of error.errors) {
            expect(pointer).toMatch(/^#[\x21-\x7e]*$/);
            expect(pointer.length).toBeLessThanOrEqual(200);
            expect(() => decodeURIComponent(pointer)).not.toThrow();
            expect(code).toMatch(/^[a-z_]{1,40}$/);
            expect(detail.length).toBeLessThan(100);
          }
        }
      }),
      { numRuns: 3000 },
    );
  });

  test('changes no prototype', () => {
    fc.assert(
      fc.property(hostile(), (value) => {
        try {
          bounded.parse(JSON.stringify(value) ?? 'null');
          bounded.check(value);
        } catch (error) {
          if (!(error instanceof HardeningError)) throw error;
        }
        expect(Object.keys(Object.prototype)).toEqual([]);
        expect(({} as { isAdmin?: unknown }).isAdmin).toBeUndefined();
      }),
    );
  });
});

/** Values that almost fit, with names that reach for prototypes. */
function hostile(): fc.Arbitrary<unknown> {
  const names = fc.constantFrom(
    'name',
    'at',
    'kind',
    't',
    'n',
    's',
    'more',
    '__proto__',
    'constructor',
    'prototype',
    'toString',
    'isAdmin',
    'x',
    '\ud800',
  );
  const leaves = fc.oneof(
    fc.constantFrom<unknown>('a', 'b', '', null, true, 0, 5, -1, 1e308, '\0', '\ud800', '5', 'abc'),
    fc.string(),
  );
  const { value } = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      leaves,
      fc.array(tie('value'), { maxLength: 4 }),
      fc
        .array(fc.tuple(names, tie('value')), { maxLength: 5 })
        .map((pairs) => Object.fromEntries(pairs)),
    ),
  }));
  return fc.oneof(
    value,
    fc.tuple(value, value).map(([kind, more]) => ({ name: 'abc', kind, more })),
    fc.record({
      name: fc.constant('abc'),
      kind: fc.record({ t: fc.constantFrom('a', 'b'), n: leaves, s: leaves }),
    }),
  );
}

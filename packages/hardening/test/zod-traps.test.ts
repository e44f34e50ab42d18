import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, expect, test } from 'vitest';
import * as z from 'zod';
import type { HardeningEvents } from '../src/events.ts';
import { input } from '../src/input.ts';
import { list } from '../src/list.ts';
import { num } from '../src/num.ts';
import { text } from '../src/text.ts';
import { refusal } from './refusal.ts';

/** Each test shows first what zod does by itself, then what this package does instead. */
describe('what zod lets pass', () => {
  test.each(['', ' ', null, false, [], '0x10', true])(
    'z.coerce.number() makes a number of %j',
    (value) => {
      const coerced = z.coerce.number().min(0).max(100);
      expect(coerced.safeParse(value).success).toBe(true);
      expect(() => input(coerced)).toThrow('coerces');
      expect(num({ min: 0, max: 100 }).safeParse(value).success).toBe(false);
      expect(num({ min: 0, max: 100, from: 'text' }).safeParse(value).success).toBe(false);
    },
  );

  test('z.coerce.boolean() reads "false" as true', () => {
    expect(z.coerce.boolean().parse('false')).toBe(true);
    expect(() => input(z.coerce.boolean())).toThrow('coerces');
    refusal(() => input(z.boolean()).check('false'));
  });

  test('z.coerce.date() reads null as 1970', () => {
    expect(z.coerce.date().parse(null).getTime()).toBe(0);
    expect(() => input(z.coerce.date())).toThrow('coerces');
  });

  test('z.coerce.bigint() reads text of any length, in quadratic time', () => {
    expect(z.coerce.bigint().safeParse('9'.repeat(10_000)).success).toBe(true);
    expect(() => input(z.coerce.bigint())).toThrow('coerces');
  });

  test('z.coerce.string() calls what was sent', () => {
    expect(z.coerce.string().parse({ toString: () => 'called' })).toBe('called');
    expect(() => input(z.coerce.string().max(5))).toThrow('coerces');
  });

  test('z.object() drops unknown keys in silence', () => {
    const schema = z.object({ a: num({ min: 0, max: 9 }) });
    expect(schema.parse({ a: 1, isAdmin: true })).toEqual({ a: 1 });
    refusal(() => input(schema).check({ a: 1, isAdmin: true }));
  });

  test('z.looseObject() and catchall let them through', () => {
    for (const schema of [z.looseObject({}), z.object({}).catchall(z.unknown())]) {
      expect(schema.parse({ isAdmin: true })).toEqual({ isAdmin: true });
      expect(() => input(schema)).toThrow('takes keys of any name');
    }
  });

  test('a union takes the first form that fits, and drops what tells the forms apart', () => {
    const either = z.union([
      z.object({ id: num({ min: 0, max: 9 }) }),
      z.object({ id: num({ min: 0, max: 9 }), secret: text() }),
    ]);
    expect(either.parse({ id: 1, secret: 's' })).toEqual({ id: 1 });
    expect(input(either).check({ id: 1, secret: 's' })).toEqual({ id: 1, secret: 's' });
  });

  test('the issues of a union tell of each of its forms; the answer does not', () => {
    const either = z.union([z.literal('internal-a'), z.object({ hidden: text() })]);
    expect(JSON.stringify(either.safeParse(1).error?.issues)).toContain('internal-a');
    const error = refusal(() => input(either).check(1));
    expect(error.errors).toEqual([
      { pointer: '#', code: 'invalid_union', detail: 'fits none of the forms it may have' },
    ]);
  });

  test('a pattern runs on what is too long for it', () => {
    const seen: number[] = [];
    const pattern = watched(/^a+$/, seen);
    z.string().max(5).regex(pattern).safeParse('a'.repeat(1000));
    expect(seen).toEqual([1000]);
    expect(() => input(z.string().max(5).regex(pattern))).toThrow('before the length is checked');
    text({ max: 5, pattern }).safeParse('a'.repeat(1000));
    expect(seen).toEqual([1000]);
  });

  test('a refinement runs on what a check has refused already', () => {
    const seen: number[] = [];
    const see = (value: string): boolean => seen.push(value.length) > 0;
    z.string().max(5).refine(see).safeParse('a'.repeat(1000));
    expect(seen).toEqual([1000]);
    text({ max: 5 }).refine(see).safeParse('a'.repeat(1000));
    expect(seen).toEqual([1000]);
  });

  test('a transformation runs only on what was not refused', () => {
    let runs = 0;
    const schema = text({ max: 5 }).transform((value) => {
      runs += 1;
      return value;
    });
    refusal(() => input(schema).check('a'.repeat(6)));
    expect(runs).toBe(0);
  });

  test('a list whose bound comes after another check has all its items validated', () => {
    let runs = 0;
    const item = z.boolean().refine(() => {
      runs += 1;
      return true;
    });
    const long = Array.from({ length: 1000 }, () => true);
    const late = z
      .array(item)
      .refine(() => true)
      .max(5);
    late.safeParse(long);
    expect(runs).toBe(1000);
    expect(() => input(late)).toThrow('before they are counted');
    list(item, { max: 5 })
      .refine(() => true)
      .safeParse(long);
    expect(runs).toBe(1000);
  });

  test('a transformation that throws is a crash', () => {
    const schema = z.object({ url: text().transform((value) => new URL(value)) });
    expect(() => schema.safeParse({ url: 'secret' })).toThrow(TypeError);
    const thrown: unknown[] = [];
    const listener = (message: unknown): void => {
      thrown.push((message as HardeningEvents['input-check-failed']).error);
    };
    subscribe('countersign:hardening:input-check-failed', listener);
    const error = refusal(() => input(schema).check({ url: 'secret' }));
    unsubscribe('countersign:hardening:input-check-failed', listener);
    expect(error.errors).toEqual([
      { pointer: '#/url', code: 'check_failed', detail: 'could not be checked' },
    ]);
    expect(error.cause).toBeUndefined();
    expect(thrown).toEqual([expect.any(TypeError)]);
  });

  test('an intersection whose sides differ is a crash', () => {
    const schema = z.intersection(
      text(),
      text().transform((value) => value.length),
    );
    expect(() => schema.safeParse('a')).toThrow();
    refusal(() => input(schema).check('a'));
  });

  test('an error may quote what was sent', () => {
    const schema = text().refine(() => false, {
      error: ({ input: value }) => `not ${String(value)}`,
    });
    expect(schema.safeParse('secret').error?.message).toContain('secret');
    const { message, errors } = refusal(() => input(schema).check('secret'));
    expect(message + JSON.stringify(errors)).not.toContain('secret');
  });

  test('the names of unknown keys come back whole, however many and long', () => {
    const many = Object.fromEntries(
      Array.from({ length: 900 }, (_, index) => [`${index}${'k'.repeat(90)}`, 1]),
    );
    expect(z.strictObject({}).safeParse(many).error?.message.length).toBeGreaterThan(80_000);
    const { message, errors } = refusal(() => input(z.object({})).check(many));
    expect((message + JSON.stringify(errors)).length).toBeLessThan(2000);
  });

  test('a record takes the names of prototypes', () => {
    const schema = z.record(text({ max: 20 }), z.boolean());
    const read = input(schema);
    refusal(() => read.parse('{"__proto__":true}'));
    expect(read.parse('{"constructor":true}')).toEqual({ constructor: true });
    expect(Object.getPrototypeOf(read.parse('{"constructor":true}'))).toBe(Object.prototype);
  });

  test('what every object inherits is not taken for what was sent', () => {
    const schema = z.object({ constructor: text().default('none') });
    refusal(() => input(schema).parse('{}'));
    expect(input(schema).parse('{"constructor":"a"}')).toEqual({ constructor: 'a' });
  });

  test('z.number() takes no infinity, JSON does', () => {
    expect(JSON.parse('1e400')).toBe(Number.POSITIVE_INFINITY);
    refusal(() => input(num({ min: 0, max: Number.MAX_VALUE })).parse('1e400'));
    refusal(() => input(num({ min: -Number.MAX_VALUE, max: 0 })).parse('-1e400'));
  });

  test('z.int() takes what JSON has rounded only below 2^53', () => {
    refusal(() =>
      input(num({ min: 0, max: Number.MAX_SAFE_INTEGER, integer: true })).parse('9007199254740993'),
    );
  });

  test('z.string() takes NUL and half characters', () => {
    for (const value of ['a\0b', '\ud800']) {
      expect(z.string().max(5).safeParse(value).success).toBe(true);
      refusal(() => input(text({ max: 5 })).check(value));
    }
  });

  test('catch hides that something was refused, from all but the bounds', () => {
    const schema = input(z.object({ a: text({ max: 5 }).catch('') }));
    expect(schema.check({ a: 'a'.repeat(6) })).toEqual({ a: '' });
    refusal(() => schema.check({ a: 'a'.repeat(200_000) }));
  });
});

function watched(pattern: RegExp, lengths: number[]): RegExp {
  const exec = pattern.exec.bind(pattern);
  pattern.exec = (value) => {
    lengths.push(value.length);
    return exec(value);
  };
  return pattern;
}

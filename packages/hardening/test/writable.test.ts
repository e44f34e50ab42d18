import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import fc from 'fast-check';
import { describe, expect, expectTypeOf, test } from 'vitest';
import * as z from 'zod';
import { HardeningError } from '../src/errors.ts';
import type { HardeningEvents } from '../src/events.ts';
import { input } from '../src/input.ts';
import { num } from '../src/num.ts';
import { text } from '../src/text.ts';
import { writable } from '../src/writable.ts';
import { refusal } from './refusal.ts';

const user = z.object({
  name: text({ max: 50 }),
  email: text({ max: 254 }),
  role: z.enum(['user', 'admin']),
  balance: num({ min: 0, max: 1e6 }),
});
const good = { name: 'Ada', email: 'ada@example.com' };

describe('writable', () => {
  test('lets in what is named', () => {
    expect(input(writable(user, ['name', 'email'])).check(good)).toEqual(good);
    expectTypeOf(input(writable(user, ['name', 'email'])).check(good)).toEqualTypeOf<{
      name: string;
      email: string;
    }>();
    // @ts-expect-error a field that the schema does not have
    expect(() => writable(user, ['nickname'])).toThrow('the schema has no field "nickname"');
  });

  test('refuses privileged fields, names them and reports them', () => {
    const seen = reported(() => {
      const error = refusal(() =>
        input(writable(user, ['name', 'email'])).check({ ...good, role: 'admin', balance: 5 }),
      );
      expect(error.errors).toEqual([
        { pointer: '#/role', code: 'privileged', detail: 'cannot be set here' },
        { pointer: '#/balance', code: 'privileged', detail: 'cannot be set here' },
      ]);
    });
    expect(seen).toEqual([{ fields: ['role', 'balance'], action: 'refused' }]);
  });

  test('ignores them where that is chosen, and reports them all the same', () => {
    const lenient = input(writable(user, ['name', 'email'], { privileged: 'ignore' }));
    const seen = reported(() => {
      expect(lenient.check({ ...good, role: 'admin' })).toEqual(good);
    });
    expect(seen).toEqual([{ fields: ['role'], action: 'ignored' }]);
    expect(reported(() => lenient.check(good))).toEqual([]);
    expect(refusal(() => lenient.check({ ...good, isAdmin: true })).errors[0]?.code).toBe(
      'unrecognized_keys',
    );
  });

  test('takes changes of single fields', () => {
    const change = input(writable(user.partial(), ['name', 'email']));
    expect(change.check({ name: 'Ada' })).toEqual({ name: 'Ada' });
    expect(refusal(() => change.check({ balance: 0 })).errors[0]?.code).toBe('privileged');
  });

  test('lets nothing through but the named fields, whatever is sent', () => {
    const parts = [
      input(writable(user.partial(), ['name'])),
      input(writable(user.partial(), ['name'], { privileged: 'ignore' })),
    ];
    const names = fc.constantFrom(
      'name',
      'email',
      'role',
      'balance',
      '__proto__',
      'constructor',
      'Role',
      'role ',
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(names, fc.anything())), fc.nat(1), (pairs, which) => {
        try {
          const value = parts[which]?.check(Object.fromEntries(pairs)) ?? {};
          expect(Object.keys(value).filter((name) => name !== 'name')).toEqual([]);
          expect((value as { role?: unknown }).role).toBeUndefined();
        } catch (error) {
          if (!(error instanceof HardeningError)) throw error;
        }
      }),
    );
  });

  test.each<[string, () => unknown]>([
    ['no fields', () => writable(user, [])],
    ['a schema that is no object', () => writable(text() as never, ['name' as never])],
    [
      'a refinement of the whole',
      () =>
        writable(
          user.refine(() => true),
          ['name'],
        ),
    ],
    ['a choice that is none', () => writable(user, ['name'], { privileged: 'drop' as never })],
    ['a misspelt option', () => writable(user, ['name'], { privilege: 'ignore' } as never)],
    ['an inherited name', () => writable(user, ['toString' as never])],
  ])('cannot be built with %s', (_, build) => {
    expect(build).toThrow(TypeError);
  });
});

function reported(run: () => unknown): readonly HardeningEvents['privileged-fields'][] {
  const seen: HardeningEvents['privileged-fields'][] = [];
  const listener = (message: unknown): void => {
    seen.push(message as HardeningEvents['privileged-fields']);
  };
  subscribe('countersign:hardening:privileged-fields', listener);
  run();
  unsubscribe('countersign:hardening:privileged-fields', listener);
  return seen;
}

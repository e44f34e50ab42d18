import { beforeEach, describe, expect, expectTypeOf, test, vi } from 'vitest';
import {
  chain,
  type Failure,
  type Guard,
  GuardError,
  type GuardRequest,
  type Outcome,
  type Pass,
  problem,
  type Reply,
} from '../src/index.ts';

const request = { method: 'GET', path: '/' } as GuardRequest;
const found =
  <const V>(value: V): Guard<V> =>
  () => ({ pass: true, context: value });

beforeEach(() => {
  vi.spyOn(console, 'error').mockImplementation(() => {});
  return () => vi.restoreAllMocks();
});

describe('chain', () => {
  test('gives each guard what the guards before it found, typed', () => {
    const seen: unknown[] = [];
    const guards = chain()
      .use('principal', found('alice'))
      .use('limit', (_request, context) => {
        expectTypeOf(context.principal).toEqualTypeOf<'alice'>();
        seen.push({ ...context });
        return { pass: true, context: 5 };
      });
    const verdict = guards(request, {});
    expect(verdict).toMatchObject({ pass: true, context: { principal: 'alice', limit: 5 } });
    expect(seen).toEqual([{ principal: 'alice' }]);
    if (!(verdict instanceof Promise) && verdict.pass) {
      expectTypeOf(verdict.context.limit).toEqualTypeOf<number>();
    }
  });

  test('stays synchronous while its guards are', () => {
    expect(chain().use('a', found(1)).use('b', found(2))(request, {})).not.toBeInstanceOf(Promise);
  });

  test('ends at the first refusal, with the headers of the guards that passed', async () => {
    const guards = chain()
      .use('headers', () => ({ pass: true, context: 0, headers: [['x-a', '1']] }))
      .use('stop', async () => problem({ status: 403 }))
      .use('never', () => {
        throw new Error('reached');
      });
    await expect(guards(request, {})).resolves.toMatchObject({
      pass: false,
      status: 403,
      headers: [
        ['x-a', '1'],
        ['content-type', 'application/problem+json'],
      ],
    });
  });

  test.each([
    [
      'throws',
      () => {
        throw new Error('secret reason');
      },
    ],
    ['rejects', () => Promise.reject(new Error('secret reason'))],
  ])('a guard that %s ends in a 500 that says nothing', async (_how, guard: Guard<never>) => {
    const reply = await chain().use('broken', guard)(request, {});
    expect(reply).toMatchObject({ pass: false, status: 500 });
    expect(JSON.stringify(reply)).not.toContain('secret reason');
  });

  test('tells the guards that passed about the refusal, the innermost first', async () => {
    const told: [string, Outcome][] = [];
    const settling =
      (name: string): Guard<undefined> =>
      () => ({
        pass: true,
        context: undefined,
        settle: (outcome) => void told.push([name, outcome]),
      });
    await chain()
      .use('outer', settling('outer'))
      .use('inner', settling('inner'))
      .use('stop', () => problem({ status: 429 }))(request, {});
    expect(told.map(([name, { status, refused }]) => [name, status, refused])).toEqual([
      ['inner', 429, true],
      ['outer', 429, true],
    ]);
  });

  test('tells of the answer of a handler that is mounted as a guard as of a handler’s, through chains around it too', async () => {
    const told: Outcome[] = [];
    const handler: Guard<never> = () => ({ ...problem({ status: 409 }), handled: {} });
    const inner = chain().use('handler', handler);
    const verdict = await chain()
      .use('key', () => ({
        pass: true,
        context: undefined,
        settle: (outcome) => void told.push(outcome),
      }))
      .use('inner', inner)(request, {});
    expect(verdict).toMatchObject({ status: 409, handled: {} });
    expect(told).toMatchObject([{ status: 409, aborted: false }]);
    expect(told[0]).not.toHaveProperty('refused');
  });

  test('has what such a handler threw explained by the innermost guard that can, once, before settle', async () => {
    const error = new Error('secret reason');
    const failing: Guard<never> = () => ({ ...problem({ status: 500 }), handled: { error } });
    const seen: string[] = [];
    const explaining =
      (name: string, status?: number): Guard<undefined> =>
      () => ({
        pass: true,
        context: undefined,
        settle: (outcome) => void seen.push(`${name} settles ${outcome.status}`),
        explain: (failure) => {
          seen.push(`${name} explains ${failure.status}`);
          expect(failure.error).toBe(error);
          return status === undefined ? undefined : problem({ status });
        },
      });
    const inner = chain().use('knows', explaining('inner', 503)).use('handler', failing);
    const verdict = await chain().use('outer', explaining('outer', 418)).use('inner', inner)(
      request,
      {},
    );
    expect(verdict).toMatchObject({ status: 503, handled: { error, explained: true } });
    expect(seen).toEqual(['inner explains 500', 'inner settles 503', 'outer settles 503']);

    const unknown = chain().use('knows not', explaining('inner')).use('handler', failing);
    expect(
      await chain().use('outer', explaining('outer', 418)).use('inner', unknown)(request, {}),
    ).toMatchObject({
      status: 418,
    });
  });

  test('knows the names of its guards', () => {
    const guards = chain().use('principal', found(1));
    expect(guards.use('limit', found(2)).names).toEqual(['principal', 'limit']);
    expect(guards.names).toEqual(['principal']);
  });

  test('waits for whatever can be waited for', async () => {
    class Thenable {
      // biome-ignore lint/suspicious/noThenProperty: a promise of another make
      then = (resolve: (verdict: unknown) => void): void => resolve({ pass: true, context: 3 }); // oxlint-disable-line unicorn/no-thenable
    }
    const thenable: unknown = new Thenable();
    const guards = chain().use('a', () => thenable as Promise<{ pass: true; context: number }>);
    await expect(guards(request, {})).resolves.toMatchObject({ context: { a: 3 } });
  });

  test.each([
    ['nothing', undefined],
    ['null', null],
    ['something else', { status: 200 }],
  ])('a guard that returns %s ends in a 500, and lets nothing pass', async (_what, verdict) => {
    expect(chain().use('a', () => verdict as never)(request, {})).toMatchObject({ status: 500 });
    await expect(
      chain().use('a', () => Promise.resolve(verdict as never))(request, {}),
    ).resolves.toMatchObject({ status: 500 });
  });

  test('a body that is too large is a 413, and no failure of the guard', () => {
    const guards = chain().use('a', () => {
      throw new GuardError('ERR_GUARD_BODY_TOO_LARGE', 'too large');
    });
    expect(guards(request, {})).toMatchObject({ status: 413 });
    expect(console.error).not.toHaveBeenCalled();
  });

  test('prints what a guard threw when nobody listens', () => {
    void chain().use('a', () => {
      throw new Error('secret reason');
    })(request, {});
    expect(console.error).toHaveBeenCalledWith('countersign:guard:guard-error:', expect.any(Error));
  });

  test('asks the innermost guard that explains failures first, and goes on when it has no answer', () => {
    const explaining =
      (explain: (failure: Failure) => Reply | undefined): Guard<undefined> =>
      () => ({ pass: true, context: undefined, explain });
    const verdict = chain()
      .use(
        'outer',
        explaining(({ status }) => problem({ status, title: 'outer' })),
      )
      .use(
        'picky',
        explaining(({ error }) => (error === 1 ? problem({ status: 418 }) : undefined)),
      )
      .use(
        'broken',
        explaining(() => {
          throw new Error('secret reason');
        }),
      )(request, {}) as Pass<object>;
    expect(verdict.explain?.({ status: 500, error: 1 })).toMatchObject({ status: 418 });
    expect(verdict.explain?.({ status: 404 })?.body).toContain('outer');
    expect(console.error).toHaveBeenCalledTimes(2);
    expect(chain().use('a', found(1))(request, {})).not.toHaveProperty('explain');
  });

  test('refuses a name that would not become a key of the context', () => {
    expect(() => chain().use('__proto__', found({ principal: 'admin' }))).toThrow(TypeError);
  });

  test('refuses a name twice', () => {
    const once = chain().use('a', found(1));
    // @ts-expect-error the name is taken
    expect(() => once.use('a', found(2))).toThrow(TypeError);
  });
});

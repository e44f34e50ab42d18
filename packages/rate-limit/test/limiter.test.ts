import { channel } from 'node:diagnostics_channel';
import { fakeClock } from '@countersign/testkit/clock';
import { afterEach, beforeEach, describe, expect, expectTypeOf, test, vi } from 'vitest';
import {
  concurrency,
  createRateLimiter,
  defaultTiers,
  fixedWindow,
  memoryRateLimitStore,
  type Policy,
  RateLimitError,
  type RateLimiter,
  type RateLimitStore,
  slidingWindow,
  tokenBucket,
} from '../src/index.ts';

const clock = fakeClock();
const { now } = clock;

function limiterOf<Name extends string>(
  options: Omit<Parameters<typeof createRateLimiter<Name>>[0], 'store'> & {
    store?: RateLimitStore;
  },
): RateLimiter<Name> {
  return createRateLimiter<Name>({ store: memoryRateLimitStore({ now }), now, ...options });
}

/** A store as it looks when it is not in this process; counts what it is asked, and fails on demand. */
function remoteStore(): RateLimitStore & { asked: number; failing: boolean } {
  const memory = memoryRateLimitStore({ now });
  return {
    sync: false,
    asked: 0,
    failing: false,
    async consume(...args) {
      this.asked += 1;
      if (this.failing) throw new Error('down');
      return memory.consume(...args);
    },
    async give(...args) {
      if (this.failing) throw new Error('down');
      memory.give(...args);
    },
    async renew(...args) {
      return memory.renew(...args);
    },
    async restrict(...args) {
      memory.restrict(...args);
    },
    async reset(...args) {
      memory.reset(...args);
    },
  };
}

async function allowed(limiter: RateLimiter<never>, times: number, subject = 's'): Promise<number> {
  let count = 0;
  for (let index = 0; index < times; index += 1)
    if ((await limiter.check(subject)).allowed) count += 1;
  return count;
}

const five = [fixedWindow({ limit: 5, windowSeconds: 60 })];

describe('a check', () => {
  test('reports the limit that binds and all the others', () => {
    const limiter = limiterOf({ policies: { free: defaultTiers.free } });
    expect(limiter.checkSync('s', { policy: 'free', cost: 59 })).toMatchObject({
      allowed: true,
      policy: 'free',
      limit: 60,
      remaining: 1,
      retryAfterMs: 0,
      source: 'store',
      policies: [
        { name: 'free-60s', remaining: 1 },
        { name: 'free-3600s', remaining: 941 },
      ],
    });
    const refused = limiter.checkSync('s', { cost: 2 });
    expect(refused).toMatchObject({ allowed: false, limit: 60, remaining: 1 });
    expect(refused.retryAfterMs).toBeGreaterThan(0);
  });

  test('names sets by type', () => {
    const limiter = limiterOf({ policies: { a: five, b: five } });
    expectTypeOf(limiter).toEqualTypeOf<RateLimiter<'a' | 'b'>>();
    // @ts-expect-error there is no policy c
    expect(() => limiter.checkSync('s', { policy: 'c' })).toThrow(/no policy is named "c"/);
    expect(() => limiter.checkSync('s')).toThrow(/say which/);
  });

  test('a cost above the limit is impossible, and does not lock the subject out', async () => {
    const limiter = limiterOf({ store: remoteStore(), policies: { p: five } });
    expect(await limiter.check('s', { cost: 6 })).toMatchObject({
      allowed: false,
      impossible: true,
      retryAfterMs: Number.POSITIVE_INFINITY,
    });
    expect(await allowed(limiter as never, 8)).toBe(5);
  });

  test.each([
    ['', 'ERR_RATE_LIMIT_SUBJECT'],
    [undefined as unknown as string, 'ERR_RATE_LIMIT_SUBJECT'],
    [{} as string, 'ERR_RATE_LIMIT_SUBJECT'],
  ])('of %j is refused', async (subject, code) => {
    const limiter = limiterOf({ policies: { p: five } });
    await expect(limiter.check(subject)).rejects.toMatchObject({ code });
  });

  test.each([0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, '1' as unknown as number])(
    'with a cost of %j is refused',
    async (cost) => {
      const limiter = limiterOf({ policies: { p: five } });
      await expect(limiter.check('s', { cost })).rejects.toMatchObject({
        code: 'ERR_RATE_LIMIT_COST',
      });
    },
  );

  test.each([5, '5', 'p'])(
    'with %j in place of options is refused, and charged nothing',
    async (given) => {
      const wrong = given as never;
      for (const store of [memoryRateLimitStore(), remoteStore()]) {
        const limiter = limiterOf({ store, policies: { p: five } });
        const error = { name: 'TypeError', message: expect.stringMatching(/^options: /) };
        for (const operation of ['check', 'peek', 'reserve', 'refund'] as const) {
          await expect(limiter[operation]('s', wrong)).rejects.toMatchObject(error);
        }
        expect(await limiter.peek('s')).toMatchObject({ remaining: 5 });
      }
      const limiter = limiterOf({ policies: { p: five } });
      expect(() => limiter.checkSync('s', wrong)).toThrow(/^options: /);
    },
  );

  test('a subject of 10 MB, or with control characters, is one subject like any other', async () => {
    const limiter = limiterOf({ policies: { p: [fixedWindow({ limit: 1, windowSeconds: 60 })] } });
    const long = 'x'.repeat(1e7);
    for (const subject of [long, `${long}y`, 'a\u0000b\r\n', '#', '\ud800']) {
      expect(await allowed(limiter as never, 2, subject)).toBe(1);
    }
  });

  test('of several limits charges all or nothing', async () => {
    const limiter = limiterOf({
      policies: {
        p: [
          tokenBucket({ capacity: 1, refillPerSecond: 0.1 }),
          slidingWindow({ limit: 10, windowSeconds: 60 }),
        ],
      },
    });
    expect(await allowed(limiter as never, 20)).toBe(1);
    expect((await limiter.peek('s')).policies[1]?.remaining).toBe(9);
  });
});

describe('options that make no sense are refused, by name', () => {
  const nonsense: [string, () => unknown][] = [
    ['store', () => createRateLimiter({ store: {} as RateLimitStore, policies: { p: five } })],
    ['policies', () => limiterOf({ policies: {} })],
    ['policies', () => limiterOf({ policies: undefined as never })],
    ['policies.p', () => limiterOf({ policies: { p: null as never } })],
    // Whoever reads it from the environment has a text, and every text but one is true.
    [
      'policies.p',
      () => limiterOf({ policies: { p: { limits: five, shadow: 'false' as never } } }),
    ],
    ['deny', () => limiterOf({ policies: { p: five }, deny: new Set(['bad']) as never })],
    ['overrides', () => limiterOf({ policies: { p: five }, overrides: {} as never })],
    ['now', () => limiterOf({ policies: { p: five }, now: 5 as never })],
    ['now', () => memoryRateLimitStore({ now: 5 as never })],
    ['policies', () => limiterOf({ policies: { 'white space': five } })],
    ['policies.p', () => limiterOf({ policies: { p: [] } })],
    ['policies.p', () => limiterOf({ policies: { p: [...five, ...five] } })],
    // Policies are data, and data may come from anywhere.
    ...[
      { kind: 'leaky' },
      { name: 'a\r\nb' },
      { limit: Number.NaN },
      { limit: '5' },
      { windowSeconds: 0.5 },
      { windowUs: 0 },
      { windowUs: Number.POSITIVE_INFINITY },
      { kind: 'token-bucket' },
      { kind: 'token-bucket', windowUs: 0, refillPerSecond: 0 },
      { kind: 'token-bucket', windowUs: 0, windowSeconds: 5, refillPerSecond: '1' },
      { kind: 'sliding-log', limit: 1e6 },
      { kind: 'concurrency', windowSeconds: 1e6, windowUs: 1e12 },
    ].map((bad): [string, () => unknown] => [
      'policies.p',
      () => limiterOf({ policies: { p: [{ ...five[0], ...bad } as Policy] } }),
    ]),
    ['policies.p', () => limiterOf({ policies: { p: [null as never] } })],
    ['timeoutMs', () => limiterOf({ policies: { p: five }, timeoutMs: 0 })],
    ['replicas', () => limiterOf({ policies: { p: five }, replicas: 0.5 })],
    ['onStoreError', () => limiterOf({ policies: { p: five }, onStoreError: 'ignore' as 'open' })],
    ['lease.size', () => limiterOf({ policies: { p: five }, lease: { size: 1 } })],
    ['lease.maxAgeMs', () => limiterOf({ policies: { p: five }, lease: { size: 5, maxAgeMs: 0 } })],
    ...[0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1.5, 1e10].flatMap(
      (bad): [string, () => unknown][] => [
        ['limit', () => fixedWindow({ limit: bad, windowSeconds: 1 })],
        ['windowSeconds', () => slidingWindow({ limit: 1, windowSeconds: bad })],
        ['capacity', () => tokenBucket({ capacity: bad, refillPerSecond: 1 })],
        ['leaseSeconds', () => concurrency({ limit: 1, leaseSeconds: bad })],
      ],
    ),
    ...[0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e-12].map((bad): [string, () => unknown] => [
      'refillPerSecond',
      () => tokenBucket({ capacity: 1, refillPerSecond: bad }),
    ]),
    ['name', () => fixedWindow({ limit: 1, windowSeconds: 1, name: 'a"b' })],
    [
      'policies.b',
      () =>
        limiterOf({
          policies: {
            a: { limits: five, counter: 'x' },
            b: { limits: [tokenBucket({ capacity: 1, refillPerSecond: 1 })], counter: 'x' },
          },
        }),
    ],
  ];
  test.each(nonsense)('%s', (option, make) => {
    expect(make).toThrow(TypeError);
    expect(make).toThrow(new RegExp(`^${option}: `));
  });
});

describe('tiers', () => {
  test('share what was used: who upgrades has more, not everything anew', () => {
    const limiter = limiterOf({ policies: defaultTiers });
    limiter.checkSync('s', { policy: 'free', cost: 60 });
    expect(limiter.checkSync('s', { policy: 'free' }).allowed).toBe(false);
    expect(limiter.checkSync('s', { policy: 'paid' })).toMatchObject({
      allowed: true,
      remaining: 239,
    });
    expect(limiter.checkSync('s', { policy: 'unauthenticated' }).allowed).toBe(false);
  });

  test.each([
    ['unauthenticated', 20, 100],
    ['free', 60, 1000],
    ['paid', 300, 10_000],
  ] as const)('%s: %d a minute, %d an hour', (name, perMinute, perHour) => {
    expect(defaultTiers[name].limits).toMatchObject([
      { limit: perMinute, windowSeconds: 60 },
      { limit: perHour, windowSeconds: 3600 },
    ]);
  });

  test('limits change at run time and per subject', () => {
    const more = [fixedWindow({ limit: 9, windowSeconds: 60 })];
    const limiter = limiterOf({
      policies: { p: five },
      overrides: (subject) => (subject === 'vip' ? more : undefined),
    });
    limiter.checkSync('s', { cost: 5 });
    limiter.checkSync('vip', { cost: 5 });
    expect(limiter.checkSync('s').allowed).toBe(false);
    expect(limiter.checkSync('vip')).toMatchObject({ allowed: true, limit: 9, remaining: 3 });
    limiter.setPolicies('p', [fixedWindow({ limit: 7, windowSeconds: 60 })]);
    expect(limiter.checkSync('s')).toMatchObject({ allowed: true, remaining: 1 });
  });

  test('whose limits change stay with their counter and in shadow, unless something else is said', () => {
    const limiter = limiterOf({
      policies: { ...defaultTiers, tried: { limits: five, shadow: true } },
    });
    limiter.checkSync('s', { policy: 'free', cost: 60 });
    limiter.setPolicies('free', [
      slidingWindow({ limit: 70, windowSeconds: 60 }),
      slidingWindow({ limit: 2000, windowSeconds: 3600 }),
    ]);
    expect(limiter.checkSync('s', { policy: 'free' })).toMatchObject({
      allowed: true,
      remaining: 9,
    });
    expect(limiter.checkSync('s', { policy: 'paid' }).remaining).toBe(238);
    limiter.setPolicies('tried', [fixedWindow({ limit: 3, windowSeconds: 60 })]);
    expect(limiter.checkSync('s', { policy: 'tried', cost: 9 }).shadowed).toBe(true);
    limiter.setPolicies('tried', { limits: five, shadow: false });
    expect(limiter.checkSync('s', { policy: 'tried', cost: 9 }).allowed).toBe(false);
  });

  test('cannot be added later: a name that is misspelt would change nothing', () => {
    const limiter = limiterOf({ policies: { p: five } });
    expect(() => limiter.setPolicies('q' as 'p', five)).toThrow(
      expect.objectContaining({ code: 'ERR_RATE_LIMIT_POLICY' }),
    );
  });

  test('with windows of different lengths do not share: a check under one would convert, and so end, what the other counts', () => {
    const hour = [slidingWindow({ limit: 1000, windowSeconds: 3600 })];
    const minute = [slidingWindow({ limit: 60, windowSeconds: 60 })];
    const limiter = limiterOf({
      policies: { a: { limits: hour, counter: 'c' }, b: { limits: hour, counter: 'c' } },
    });
    expect(() => limiter.setPolicies('b', { limits: minute, counter: 'c' })).toThrow(
      /^policies.b: shares the counter/,
    );
    limiter.setPolicies('b', { limits: minute, counter: 'b' });
    expect(limiter.checkSync('s', { policy: 'b' }).limit).toBe(60);
  });

  test('limits of a single subject are of the same kinds as those of the sets that share the counter', async () => {
    const limiter = limiterOf({
      policies: { a: { limits: five, counter: 'c' }, b: { limits: five, counter: 'c' } },
      overrides: (_, policy) =>
        policy === 'a' ? [tokenBucket({ capacity: 5, refillPerSecond: 1 })] : undefined,
    });
    await expect(limiter.check('s', { policy: 'a' })).rejects.toThrow(
      /^policies.a: shares the counter/,
    );
    expect((await limiter.check('s', { policy: 'b' })).allowed).toBe(true);
  });

  test('and may be of any kind where they are the same under all of those', async () => {
    const own = [tokenBucket({ capacity: 3, refillPerSecond: 1 })];
    const limiter = limiterOf({ policies: defaultTiers, overrides: () => own });
    await limiter.check('s', { policy: 'free' });
    expect((await limiter.check('s', { policy: 'paid' })).remaining).toBe(1);
  });

  test('a set that goes into shadow mode takes the limits of single subjects with it', () => {
    const limiter = limiterOf({ policies: { p: five }, overrides: () => five });
    expect(limiter.checkSync('s', { cost: 9 }).allowed).toBe(false);
    limiter.setPolicies('p', { limits: five, shadow: true });
    expect(limiter.checkSync('s', { cost: 9 })).toMatchObject({ allowed: true, shadowed: true });
  });
});

test('shadow mode lets pass what it would have refused, and says so', () => {
  const events: unknown[] = [];
  const record = (message: unknown): void => void events.push(message);
  channel('countersign:rate-limit:refused').subscribe(record);
  const limiter = limiterOf({ policies: { p: { limits: five, shadow: true } } });
  limiter.checkSync('s', { cost: 5 });
  expect(limiter.checkSync('s')).toMatchObject({ allowed: true, shadowed: true });
  channel('countersign:rate-limit:refused').unsubscribe(record);
  expect(events).toMatchObject([{ subject: 's', cost: 1, decision: { shadowed: true } }]);
});

test('a denied subject is refused for good', () => {
  const limiter = limiterOf({ policies: { p: five }, deny: (subject) => subject === 'bad' });
  expect(limiter.checkSync('bad')).toMatchObject({
    allowed: false,
    denied: true,
    retryAfterMs: Number.POSITIVE_INFINITY,
  });
  expect(limiter.checkSync('good').allowed).toBe(true);
});

describe('a cost known afterwards', () => {
  test('is settled: more is charged, less given back', async () => {
    const limiter = limiterOf({
      policies: { p: [fixedWindow({ limit: 100, windowSeconds: 60 })] },
    });
    const first = await limiter.reserve('s', { cost: 50 });
    await first.settle(20);
    expect((await limiter.peek('s')).remaining).toBe(80);
    await first.settle(0);
    expect((await limiter.peek('s')).remaining).toBe(80);
    const second = await limiter.reserve('s', { cost: 10 });
    await second.settle(95);
    expect(await limiter.peek('s')).toMatchObject({ remaining: 0, allowed: false });
  });

  test('is settled however large it is', async () => {
    const limiter = limiterOf({ policies: { p: five } });
    const reservation = await limiter.reserve('s');
    await reservation.settle(Number.MAX_SAFE_INTEGER);
    const refused = await limiter.check('s');
    expect(refused).toMatchObject({ allowed: false, remaining: 0 });
    expect(refused.retryAfterMs).toBeLessThanOrEqual(60_000);
  });

  test('a refused reservation settles nothing', async () => {
    const limiter = limiterOf({ policies: { p: five } });
    await limiter.check('s', { cost: 5 });
    const refused = await limiter.reserve('s', { cost: 3 });
    await refused.settle(0);
    expect((await limiter.peek('s')).remaining).toBe(0);
  });

  test('refund and reset', async () => {
    const limiter = limiterOf({ policies: { p: five } });
    await limiter.check('s', { cost: 5 });
    await limiter.refund('s', { cost: 2 });
    expect((await limiter.peek('s')).remaining).toBe(2);
    await limiter.reset('s');
    expect((await limiter.peek('s')).remaining).toBe(5);
  });
});

describe('a slot', () => {
  const policies = { p: [concurrency({ limit: 1, leaseSeconds: 10 })] };

  test('is released, or frees itself', async () => {
    const limiter = limiterOf({ policies });
    const first = await limiter.check('s');
    expect((await limiter.check('s')).allowed).toBe(false);
    await limiter.release('s', { slot: first.slot });
    const second = await limiter.check('s');
    expect(second.allowed).toBe(true);
    clock.advance(9000);
    expect(await limiter.renew('s', { slot: second.slot })).toBe(true);
    clock.advance(9000);
    expect((await limiter.check('s')).allowed).toBe(false);
    clock.advance(1000);
    expect((await limiter.check('s')).allowed).toBe(true);
    expect(await limiter.renew('s', { slot: second.slot })).toBe(false);
  });

  test('that none can be is refused, where otherwise one would stay taken without a word', async () => {
    const limiter = limiterOf({ policies });
    const { slot } = await limiter.check('s');
    for (const nonsense of [slot, {}, { slot: String(slot) }, { slot: Number.NaN }] as never[]) {
      await expect(limiter.release('s', nonsense)).rejects.toThrow(/^slot: /);
      await expect(limiter.renew('s', nonsense)).rejects.toThrow(/^slot: /);
    }
    const settled = limiter.settle('s', { cost: 1, actualCost: 1, slot: null as never });
    await expect(settled).rejects.toThrow(/^slot: /);
    expect((await limiter.check('s')).allowed).toBe(false);
  });

  test('is given back even where the charge that comes with it fails', async () => {
    const store = remoteStore();
    const limiter = limiterOf({
      store: {
        ...store,
        consume: async (...args) => {
          if (args[4] === 'force') throw new Error('down');
          return await store.consume(...args);
        },
      },
      policies: { p: [...policies.p, fixedWindow({ limit: 10, windowSeconds: 60 })] },
    });
    const reservation = await limiter.reserve('s', { cost: 2 });
    await expect(reservation.settle(5)).rejects.toMatchObject({ code: 'ERR_RATE_LIMIT_STORE' });
    expect((await limiter.check('s')).allowed).toBe(true);
  });

  test('of a settled reservation is given back', async () => {
    const limiter = limiterOf({
      policies: { p: [...policies.p, fixedWindow({ limit: 10, windowSeconds: 60 })] },
    });
    await (await limiter.reserve('s', { cost: 2 })).settle(5);
    expect((await limiter.peek('s')).policies).toMatchObject([{ remaining: 1 }, { remaining: 5 }]);
  });
});

describe('refusals are remembered', () => {
  test('for as long as they hold, and not a moment longer', async () => {
    const store = remoteStore();
    const limiter = limiterOf({
      store,
      policies: { p: [fixedWindow({ limit: 5, windowSeconds: 4 })] },
    });
    clock.set(Date.UTC(2026, 0, 1));
    expect(await allowed(limiter as never, 6)).toBe(5);
    const { asked } = store;
    clock.advance(1000);
    expect(await limiter.check('s')).toMatchObject({
      allowed: false,
      source: 'blocked',
      retryAfterMs: 3000,
    });
    expect(store.asked).toBe(asked);
    clock.advance(3000);
    expect((await limiter.check('s')).allowed).toBe(true);
  });

  test('for no other cost: a smaller one may be granted, a larger one has longer to wait', async () => {
    const limiter = limiterOf({
      store: remoteStore(),
      policies: { p: [tokenBucket({ capacity: 5, refillPerSecond: 1 })] },
    });
    await limiter.check('s', { cost: 4 });
    expect(await limiter.check('s', { cost: 3 })).toMatchObject({ retryAfterMs: 2000 });
    expect(await limiter.check('s', { cost: 5 })).toMatchObject({ retryAfterMs: 4000 });
    expect(await limiter.check('s', { cost: 3 })).toMatchObject({ retryAfterMs: 2000 });
    expect((await limiter.check('s', { cost: 1 })).allowed).toBe(true);
    expect((await limiter.check('s', { cost: 1 })).allowed).toBe(false);
    expect(await limiter.check('s', { cost: 6 })).toMatchObject({
      impossible: true,
      retryAfterMs: Number.POSITIVE_INFINITY,
    });
  });

  test('and tell of every limit how it stands by now, never too early', async () => {
    const store = remoteStore();
    const slow: RateLimitStore = {
      ...store,
      // The store decides when half of the time has passed, its answer comes after all of it.
      consume: async (...args) => {
        clock.advance(20);
        const answer = await store.consume(...args);
        clock.advance(20);
        return answer;
      },
    };
    const limiter = limiterOf({
      store: slow,
      policies: {
        p: [
          tokenBucket({ capacity: 1, refillPerSecond: 1, name: 'second' }),
          tokenBucket({ capacity: 1, refillPerSecond: 0.1, name: 'ten' }),
        ],
      },
    });
    await limiter.check('s');
    const refused = await limiter.check('s');
    clock.advance(2000);
    const blocked = await limiter.check('s');
    expect(blocked).toMatchObject({
      source: 'blocked',
      retryAfterMs: refused.retryAfterMs - 2000,
      resetMs: refused.resetMs - 2000,
    });
    expect(blocked.policies).toMatchObject([
      { retryAfterMs: 0, resetMs: 0 },
      { retryAfterMs: refused.retryAfterMs - 2000, resetMs: refused.resetMs - 2000 },
    ]);
  });

  test('no longer when the clock is set back, of nobody, even if it is put right again', async () => {
    const store = remoteStore();
    const limiter = limiterOf({ store, policies: { p: five } });
    for (const subject of ['s', 't', 's', 't']) await limiter.check(subject, { cost: 5 });
    const { asked } = store;
    await limiter.check('s', { cost: 5 });
    await limiter.check('t', { cost: 5 });
    expect(store.asked).toBe(asked);
    clock.advance(-1000);
    await limiter.check('s', { cost: 5 });
    expect(store.asked).toBe(asked + 1);
    clock.advance(1000);
    await limiter.check('t', { cost: 5 });
    expect(store.asked).toBe(asked + 2);
  });

  test('until something is given back under another set with the same counter', async () => {
    const limiter = limiterOf({
      store: remoteStore(),
      policies: { a: { limits: five, counter: 'c' }, b: { limits: five, counter: 'c' } },
    });
    await limiter.check('s', { policy: 'a', cost: 5 });
    expect((await limiter.check('s', { policy: 'b' })).allowed).toBe(false);
    await limiter.refund('s', { policy: 'a' });
    expect((await limiter.check('s', { policy: 'b' })).allowed).toBe(true);
    expect((await limiter.check('s', { policy: 'b' })).allowed).toBe(false);
    await limiter.reset('s', { policy: 'a' });
    expect((await limiter.check('s', { policy: 'b' })).allowed).toBe(true);
  });

  test('until something is given back, or limits change', async () => {
    const limiter = limiterOf({ store: remoteStore(), policies: { p: five } });
    expect(await allowed(limiter as never, 6)).toBe(5);
    await limiter.refund('s');
    expect(await allowed(limiter as never, 3)).toBe(1);
    await limiter.reset('s');
    expect(await allowed(limiter as never, 6)).toBe(5);
    limiter.setPolicies('p', [fixedWindow({ limit: 6, windowSeconds: 60 })]);
    expect(await allowed(limiter as never, 3)).toBe(1);
  });

  test('only under the limits they were made by', async () => {
    const more = [fixedWindow({ limit: 9, windowSeconds: 60 })];
    let upgraded = false;
    const limiter = limiterOf({
      store: remoteStore(),
      policies: { p: five },
      overrides: () => (upgraded ? more : undefined),
    });
    expect(await allowed(limiter as never, 7)).toBe(5);
    upgraded = true;
    expect(await allowed(limiter as never, 7)).toBe(4);
  });

  test.each([
    ['checked', async (limiter: RateLimiter<'p'>) => void (await limiter.check('s'))],
    [
      'settled',
      async (limiter: RateLimiter<'p'>) => await limiter.settle('s', { cost: 1, actualCost: 2 }),
    ],
  ])(
    'no longer once the limits they were made by were replaced for a while, and it was %s',
    async (_, use) => {
      const other = [slidingWindow({ limit: 5, windowSeconds: 60 })];
      let replaced = false;
      const limiter = limiterOf({
        store: remoteStore(),
        policies: { p: five },
        overrides: () => (replaced ? other : undefined),
      });
      expect(await allowed(limiter as never, 6)).toBe(5);
      replaced = true;
      // Another kind: what the first had counted is forgotten.
      await use(limiter);
      replaced = false;
      expect(await limiter.check('s')).toMatchObject({ allowed: true, source: 'store' });
    },
  );

  test('no longer once a restriction that ends sooner takes the place of the one they were made by', async () => {
    const limiter = limiterOf({ store: remoteStore(), policies: { p: five } });
    await limiter.restrict('s', { remaining: 2, durationMs: 9000 });
    expect((await limiter.check('s', { cost: 3 })).retryAfterMs).toBe(9000);
    await limiter.restrict('s', { remaining: 0, durationMs: 1000 });
    expect((await limiter.check('s', { cost: 3 })).retryAfterMs).toBe(1000);
    clock.advance(1000);
    expect((await limiter.check('s', { cost: 3 })).allowed).toBe(true);
  });

  test('not when something was given back while the refusal was on its way', async () => {
    const limiter = limiterOf({ store: remoteStore(), policies: { p: five } });
    await limiter.check('s', { cost: 5 });
    const [refused] = await Promise.all([limiter.check('s'), limiter.refund('s')]);
    expect(refused.allowed).toBe(false);
    expect(await limiter.check('s')).toMatchObject({ allowed: true, source: 'store' });
  });

  test('never for slots, which are freed at any moment', async () => {
    const store = remoteStore();
    const limiter = limiterOf({ store, policies: { p: [concurrency({ limit: 1 })] } });
    await limiter.check('s');
    await limiter.check('s');
    await limiter.check('s');
    expect(store.asked).toBe(3);
  });
});

describe('a store that fails', () => {
  test.each([
    ['open', true],
    ['closed', false],
  ] as const)('%s', async (onStoreError, expected) => {
    const store = remoteStore();
    store.failing = true;
    const limiter = limiterOf({ store, policies: { p: five }, onStoreError });
    expect(await limiter.check('s')).toMatchObject({ allowed: expected, source: 'degraded' });
  });

  test('refuses unless something else was chosen by name, and says when to come back', async () => {
    const store = remoteStore();
    store.failing = true;
    const limiter = limiterOf({ store, policies: { p: five } });
    expect(await limiter.check('s')).toMatchObject({
      allowed: false,
      source: 'degraded',
      retryAfterMs: 1000,
    });
  });

  test('local: an equal share of the limit is kept in this process', async () => {
    const store = remoteStore();
    store.failing = true;
    const limiter = limiterOf({
      store,
      policies: { p: [fixedWindow({ limit: 10, windowSeconds: 60 })] },
      onStoreError: 'local',
      replicas: 4,
    });
    expect(await allowed(limiter as never, 10)).toBe(2);
    expect(await limiter.check('t', { cost: 9 })).toMatchObject({
      allowed: true,
      source: 'degraded',
    });
  });

  test('local: what a limit can never grant is not granted meanwhile', async () => {
    const store = remoteStore();
    store.failing = true;
    const limiter = limiterOf({ store, policies: { p: five }, onStoreError: 'local', replicas: 2 });
    expect(await limiter.check('s', { cost: 6 })).toMatchObject({
      allowed: false,
      impossible: true,
      retryAfterMs: Number.POSITIVE_INFINITY,
      source: 'degraded',
    });
    expect(await allowed(limiter as never, 5)).toBe(2);
  });

  test.each([
    ['nothing', undefined],
    ['no policies', { granted: true, pausedMs: 0, policies: [] }],
  ])('answers with %s', async (_, answer) => {
    const store = { ...remoteStore(), consume: async () => answer as never };
    const limiter = limiterOf({ store, policies: { p: five } });
    expect(await limiter.check('s')).toMatchObject({ allowed: false, source: 'degraded' });
  });

  test('and throws instead of answering', async () => {
    const store: RateLimitStore = {
      ...remoteStore(),
      consume: () => {
        throw new Error('down');
      },
    };
    const limiter = limiterOf({ store, policies: { p: five } });
    expect(await limiter.check('s')).toMatchObject({ allowed: false, source: 'degraded' });
  });

  test('and loses the answer of a check: the slot that it may have taken is given back', async () => {
    const store = remoteStore();
    const late: RateLimitStore = {
      ...store,
      consume: async (...args) => {
        await store.consume(...args);
        throw new Error('timeout');
      },
    };
    const limiter = limiterOf({ store: late, policies: { p: [concurrency({ limit: 1 })] } });
    expect(await limiter.check('s')).toMatchObject({ allowed: false, source: 'degraded' });
    const other = limiterOf({ store, policies: { p: [concurrency({ limit: 1 })] } });
    expect((await other.check('s')).allowed).toBe(true);
  });

  test('and certainly took no slot is not asked to take one back', async () => {
    let given = 0;
    const store: RateLimitStore = {
      ...remoteStore(),
      consume: () =>
        Promise.reject(Object.assign(new Error('no connection'), { outcome: 'not-run' })),
      give: () => {
        given += 1;
      },
    };
    await limiterOf({ store, policies: { p: [concurrency({ limit: 1 })] } }).check('s');
    expect(given).toBe(0);
  });

  test('for one subject only does not keep others from being asked for', async () => {
    const store = remoteStore();
    const { consume } = store;
    const poisoned: RateLimitStore = {
      ...store,
      consume: (counter, subject, ...rest) =>
        subject === 'poisoned'
          ? Promise.reject(Object.assign(new Error('bad record'), { code: 'ERR_STORE_FAILED' }))
          : consume.call(store, counter, subject, ...rest),
    };
    const limiter = limiterOf({ store: poisoned, policies: { p: five } });
    expect(await allowed(limiter as never, 5, 'poisoned')).toBe(0);
    expect(await limiter.check('s')).toMatchObject({ allowed: true, source: 'store' });
  });

  test('gets nothing back for what it was never charged', async () => {
    const store = remoteStore();
    const limiter = limiterOf({ store, policies: { p: five }, onStoreError: 'local' });
    await limiter.check('s', { cost: 4 });
    store.failing = true;
    const reservation = await limiter.reserve('s', { cost: 3 });
    expect(reservation).toMatchObject({ allowed: true, source: 'degraded' });
    store.failing = false;
    await reservation.settle(1);
    expect((await limiter.peek('s')).remaining).toBe(1);
  });

  test.each([
    [
      'at once',
      (limiter: RateLimiter<'p'>) =>
        Promise.all(Array.from({ length: 20 }, () => limiter.check('s'))),
    ],
    [
      'one by one',
      async (limiter: RateLimiter<'p'>) => {
        const decisions = [];
        for (let count = 0; count < 20; count += 1) decisions.push(await limiter.check('s'));
        return decisions;
      },
    ],
  ])('local: the limit holds for who takes leases too, %s', async (_, checks) => {
    const store = remoteStore();
    store.failing = true;
    const lease = { size: 4 };
    const limiter = limiterOf({ store, policies: { p: five }, onStoreError: 'local', lease });
    const decisions = await checks(limiter);
    expect(decisions.filter(({ allowed }) => allowed)).toHaveLength(5);
    expect(decisions.every(({ source }) => source === 'degraded')).toBe(true);
  });

  test('a slot that was leased here meanwhile is given back here', async () => {
    const store = remoteStore();
    const policies = { p: [concurrency({ limit: 1 })] };
    const limiter = limiterOf({ store, policies, onStoreError: 'local' });
    store.failing = true;
    const { slot } = await limiter.check('s');
    clock.advance(50_000);
    expect(await limiter.renew('s', { slot })).toBe(true);
    clock.advance(50_000);
    expect((await limiter.check('s')).allowed).toBe(false);
    await limiter.release('s', { slot });
    const reservation = await limiter.reserve('s');
    expect(reservation).toMatchObject({ allowed: true, source: 'degraded' });
    await reservation.settle(1);
    expect((await limiter.check('s')).allowed).toBe(true);
  });

  test('is asked by one request a second until it answers again', async () => {
    const events: string[] = [];
    const names = ['countersign:rate-limit:store-failed', 'countersign:rate-limit:store-recovered'];
    const record = (_: unknown, name: string | symbol): void => void events.push(String(name));
    for (const name of names) channel(name).subscribe(record);
    const store = remoteStore();
    store.failing = true;
    const limiter = limiterOf({ store, policies: { p: five }, onStoreError: 'open' });
    await allowed(limiter as never, 50);
    expect(store.asked).toBe(3);
    clock.advance(999);
    await allowed(limiter as never, 5);
    expect(store.asked).toBe(3);
    clock.advance(1);
    await allowed(limiter as never, 5);
    expect(store.asked).toBe(4);
    clock.advance(-3_600_000);
    await allowed(limiter as never, 5);
    expect(store.asked).toBe(5);
    store.failing = false;
    clock.advance(1000);
    expect((await limiter.check('s')).source).toBe('store');
    expect((await limiter.check('s')).source).toBe('store');
    for (const name of names) channel(name).unsubscribe(record);
    expect(events).toEqual([...Array(5).fill(names[0]), names[1]]);
  });

  test('is an error where nothing can be decided without it', async () => {
    const store = remoteStore();
    store.failing = true;
    const limiter = limiterOf({ store, policies: { p: five } });
    await expect(limiter.peek('s')).rejects.toMatchObject({ code: 'ERR_RATE_LIMIT_STORE' });
  });
});

describe('leases', () => {
  const policies = { p: [fixedWindow({ limit: 100, windowSeconds: 60 })] };

  test('ask the store once for many requests, and grant the limit exactly', async () => {
    const store = remoteStore();
    const limiter = limiterOf({ store, policies, lease: { size: 10 } });
    const decisions = await Promise.all(Array.from({ length: 10 }, () => limiter.check('s')));
    expect(decisions.every((decision) => decision.allowed && decision.source === 'local')).toBe(
      true,
    );
    expect(store.asked).toBe(1);
    expect(10 + (await allowed(limiter as never, 200))).toBe(100);
  });

  test('several processes together never get more than the limit from the store', async () => {
    const store = remoteStore();
    const fleet = Array.from({ length: 3 }, () =>
      limiterOf({ store, policies, lease: { size: 30 } }),
    );
    const counts = await Promise.all(fleet.map((limiter) => allowed(limiter as never, 200)));
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(100);
  });

  test('carry at most their size over the end of a window, for as long as they last', async () => {
    const store = remoteStore();
    const limiter = limiterOf({ store, policies, lease: { size: 10, maxAgeMs: 1000 } });
    clock.set(Date.UTC(2026, 0, 1, 0, 0, 59, 900));
    expect(await allowed(limiter as never, 1)).toBe(1);
    clock.advance(200);
    expect(await allowed(limiter as never, 300)).toBe(9 + 100);
  });

  test('end when the clock is set back', async () => {
    const store = remoteStore();
    const limiter = limiterOf({ store, policies, lease: { size: 10 } });
    await limiter.check('s');
    clock.advance(-3_600_000);
    await limiter.check('s');
    expect(store.asked).toBe(2);
    clock.advance(3_600_000);
  });

  test('are given up by whoever restricts, resets or changes limits, under any set with the same counter', async () => {
    const store = remoteStore();
    const sets = {
      a: { limits: policies.p, counter: 'c' },
      b: { limits: policies.p, counter: 'c' },
    };
    const limiter = limiterOf({ store, policies: sets, lease: { size: 10 } });
    const remaining = async (): Promise<number> =>
      (await limiter.check('s', { policy: 'b' })).remaining;
    expect(await remaining()).toBe(99);
    await limiter.restrict('s', { policy: 'a', remaining: 0, durationMs: 1000 });
    expect((await limiter.check('s', { policy: 'b' })).allowed).toBe(false);
    await limiter.reset('s', { policy: 'a' });
    expect(await remaining()).toBe(99);
    limiter.setPolicies('b', {
      limits: [fixedWindow({ limit: 50, windowSeconds: 60 })],
      counter: 'c',
    });
    expect(await remaining()).toBe(39);
  });

  test('serve only the limits that granted them, and none that was on its way when the subject was restricted', async () => {
    const store = remoteStore();
    const few = [fixedWindow({ limit: 20, windowSeconds: 60 })];
    let downgraded = false;
    const limiter = limiterOf({
      store,
      policies,
      lease: { size: 10 },
      overrides: () => (downgraded ? few : undefined),
    });
    await limiter.check('s');
    downgraded = true;
    expect(await limiter.check('s')).toMatchObject({ limit: 20, remaining: 9 });
    downgraded = false;
    await Promise.all([
      limiter.check('s'),
      limiter.restrict('s', { remaining: 0, durationMs: 1000 }),
    ]);
    expect((await limiter.check('s')).allowed).toBe(false);
  });

  test('end, and what was not used is lost', async () => {
    clock.set(Date.UTC(2026, 0, 1));
    const limiter = limiterOf({
      store: remoteStore(),
      policies,
      lease: { size: 10, maxAgeMs: 1000 },
    });
    await limiter.check('s');
    clock.advance(1000);
    expect(await allowed(limiter as never, 300)).toBe(90);
  });
});

describe('acquire', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    await vi.advanceTimersByTimeAsync(ms);
  };
  const bucket = { p: [tokenBucket({ capacity: 1, refillPerSecond: 1 })] };

  test('waits, first come, first served', async () => {
    const limiter = limiterOf({ policies: bucket });
    const order: number[] = [];
    const all = [0, 1, 2, 3].map((index) =>
      limiter.acquire('s').then(() => {
        order.push(index);
      }),
    );
    await pass(0);
    expect(order).toEqual([0]);
    for (let second = 0; second < 40; second += 1) await pass(100);
    await Promise.all(all);
    expect(order).toEqual([0, 1, 2, 3]);
  });

  test('gives up at once when it would take too long, and says how long', async () => {
    const limiter = limiterOf({ policies: bucket });
    await limiter.acquire('s');
    await expect(limiter.acquire('s', { maxWaitMs: 500 })).rejects.toMatchObject({
      code: 'ERR_RATE_LIMIT_WAIT',
      retryAfterMs: 1000,
    });
  });

  test('looks again and again for a free slot only, not for what takes its time', async () => {
    clock.set(Date.UTC(2026, 0, 1));
    const store = remoteStore();
    const limiter = limiterOf({ store, policies: { p: [concurrency({ limit: 2 }), ...five] } });
    await limiter.acquire('s', { cost: 5 });
    await expect(limiter.acquire('s', { maxWaitMs: 1000 })).rejects.toMatchObject({
      code: 'ERR_RATE_LIMIT_WAIT',
    });
    const waiting = limiter.acquire('s', { maxWaitMs: 60_000 });
    await pass(0);
    const { asked } = store;
    for (let second = 0; second < 59; second += 1) await pass(1000);
    expect(store.asked).toBe(asked);
    await pass(1000);
    expect((await waiting).allowed).toBe(true);
  });

  test('gives up when its turn does not come in time', async () => {
    const limiter = limiterOf({ policies: bucket });
    await limiter.acquire('s');
    const first = limiter.acquire('s');
    const second = expect(limiter.acquire('s', { maxWaitMs: 300 })).rejects.toMatchObject({
      code: 'ERR_RATE_LIMIT_WAIT',
    });
    await pass(300);
    await second;
    await pass(1000);
    await first;
  });

  test('leaves the queue when aborted, wherever it stands', async () => {
    const limiter = limiterOf({ policies: bucket });
    await limiter.acquire('s');
    const [head, tail] = [new AbortController(), new AbortController()];
    const first = expect(limiter.acquire('s', { signal: head.signal })).rejects.toThrow('gone 1');
    const second = expect(limiter.acquire('s', { signal: tail.signal })).rejects.toThrow('gone 2');
    const third = limiter.acquire('s');
    tail.abort(new Error('gone 2'));
    head.abort(new Error('gone 1'));
    await Promise.all([first, second]);
    for (let step = 0; step < 12; step += 1) await pass(100);
    expect((await third).allowed).toBe(true);
  });

  test('tries again when limits have changed, and does not wait as the old ones said', async () => {
    const limiter = limiterOf({ policies: { p: five } });
    await limiter.acquire('s', { cost: 5 });
    const waiting = limiter.acquire('s', { maxWaitMs: 60_000 });
    await pass(0);
    limiter.setPolicies('p', [fixedWindow({ limit: 6, windowSeconds: 60 })]);
    await pass(0);
    expect(await Promise.race([waiting, Promise.resolve()])).toMatchObject({ allowed: true });
  });

  test('fails for what can never be had, and for who is denied', async () => {
    const limiter = limiterOf({ policies: bucket, deny: (subject) => subject === 'bad' });
    await expect(limiter.acquire('s', { cost: 2 })).rejects.toMatchObject({
      code: 'ERR_RATE_LIMIT_IMPOSSIBLE',
    });
    await expect(limiter.acquire('bad')).rejects.toBeInstanceOf(RateLimitError);
  });

  test('asks for everybody at once as long as nobody has to wait', async () => {
    const store = remoteStore();
    const underway: (() => void)[] = [];
    const limiter = limiterOf({
      store: {
        ...store,
        consume: async (...args) => {
          await new Promise<void>((resolve) => void underway.push(resolve));
          return await store.consume(...args);
        },
      },
      policies: { p: [fixedWindow({ limit: 3, windowSeconds: 60 })] },
    });
    const order: number[] = [];
    const all = Array.from({ length: 6 }, (_, index) =>
      limiter.acquire('s', { maxWaitMs: 200_000 }).then(() => order.push(index)),
    );
    await pass(0);
    expect(underway).toHaveLength(6);
    const late = limiter.acquire('s', { maxWaitMs: 200_000 }).then(() => order.push(6));
    for (let second = 0; second < 190; second += 1) {
      for (const answer of underway.splice(0)) answer();
      await pass(1000);
    }
    await Promise.all([...all, late]);
    expect(order).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test.each([
    ['when it asks with everybody else', 0],
    ['when it is the first who waits', 1],
  ])('misses nothing that is given back while a refusal is on its way, %s', async (_, before) => {
    const store = remoteStore();
    const late: (() => void)[] = [];
    const limiter = limiterOf({
      store: {
        ...store,
        consume: async (...args) => {
          const answer = await store.consume(...args);
          await new Promise<void>((resolve) => void late.push(resolve));
          return answer;
        },
      },
      policies: { p: [concurrency({ limit: 1 })] },
    });
    const answered = async (): Promise<void> => {
      for (const answer of late.splice(0)) answer();
      await pass(0);
    };
    const held = limiter.check('s');
    await pass(0);
    await answered();
    const waiting = limiter.acquire('s');
    await pass(0);
    for (let refusal = 0; refusal < before; refusal += 1) await answered();
    await limiter.release('s', { slot: (await held).slot });
    await answered();
    await answered();
    expect((await waiting).allowed).toBe(true);
  });

  test('with jitter does not give up on what comes in time', async () => {
    const limiter = limiterOf({ policies: bucket });
    await limiter.acquire('s');
    const waiting = limiter.acquire('s', { maxWaitMs: 1000 });
    await pass(0);
    await pass(1000);
    expect((await waiting).allowed).toBe(true);
  });

  test.each([
    [0, 1000],
    [0.5, 1025],
    [0.98, 1049],
  ])(
    'of processes that were all told the same moment, does not come back at it together: %d → %d ms',
    async (share, comesAtMs) => {
      const random = vi.spyOn(Math, 'random').mockReturnValue(share);
      try {
        const store = remoteStore();
        const limiter = limiterOf({ store, policies: bucket });
        await limiter.check('s');
        const waiting = limiter.acquire('s');
        await pass(0);
        const { asked } = store;
        await pass(comesAtMs - 1);
        expect(store.asked).toBe(asked);
        await pass(1);
        expect(store.asked).toBe(asked + 1);
        expect((await waiting).allowed).toBe(true);
      } finally {
        random.mockRestore();
      }
    },
  );

  test('takes what is there without any wait, or fails at once', async () => {
    const limiter = limiterOf({ policies: { p: five } });
    const some = Array.from({ length: 5 }, () => limiter.acquire('s', { maxWaitMs: 0 }));
    expect((await Promise.all(some)).every((decision) => decision.allowed)).toBe(true);
    await expect(limiter.acquire('s', { maxWaitMs: 0 })).rejects.toMatchObject({
      code: 'ERR_RATE_LIMIT_WAIT',
    });
  });

  test('of 10,000 who wait nobody is forgotten, and one more is refused', async () => {
    const limiter = limiterOf({
      policies: { p: [fixedWindow({ limit: 5000, windowSeconds: 1 })] },
    });
    await limiter.check('s', { cost: 5000 });
    const aborted = new AbortController();
    const all = Array.from({ length: 10_001 }, (_, index) =>
      limiter.acquire('s', index % 2 === 0 ? {} : { signal: aborted.signal }).then(
        () => 'served',
        (error: Error) => error.message,
      ),
    );
    await pass(0);
    await expect(limiter.acquire('s')).rejects.toMatchObject({ code: 'ERR_RATE_LIMIT_WAIT' });
    aborted.abort(new Error('gone'));
    for (let step = 0; step < 30; step += 1) await pass(100);
    const outcomes = await Promise.all(all);
    expect(outcomes.filter((outcome) => outcome === 'gone')).toHaveLength(5000);
    expect(outcomes.filter((outcome) => outcome === 'served')).toHaveLength(5001);
  });

  test('takes a slot as soon as it is released', async () => {
    const limiter = limiterOf({ policies: { p: [concurrency({ limit: 1 })] } });
    const { slot } = await limiter.acquire('s');
    const next = limiter.acquire('s');
    await pass(0);
    await limiter.release('s', { slot });
    expect((await next).allowed).toBe(true);
  });
});

import { chain, type GuardRequest, type Pass, type Reply, type Verdict } from '@countersign/guard';
import { fakeClock } from '@countersign/testkit/clock';
import { describe, expect, test } from 'vitest';
import { addressKey, rateLimitGuard } from '../src/guard.ts';
import {
  concurrency,
  createRateLimiter,
  type Decision,
  fixedWindow,
  memoryRateLimitStore,
  type RateLimitStore,
} from '../src/index.ts';

function request(remoteAddress = '192.0.2.1', overrides: Partial<GuardRequest> = {}): GuardRequest {
  return {
    method: 'GET',
    path: '/things',
    query: new URLSearchParams(),
    headers: { get: () => undefined, all: () => [] },
    remoteAddress,
    secure: true,
    signal: new AbortController().signal,
    rawBody: async () => new Uint8Array(),
    ...overrides,
  };
}

// Stands still: no window turns in the middle of a test.
const { now } = fakeClock();
const two = [fixedWindow({ limit: 2, windowSeconds: 60 })];
const outcome = { headers: [], aborted: false };

function passed(verdict: Verdict<Decision | undefined>): Pass<Decision | undefined> {
  if (!verdict.pass) throw new Error(`expected a pass, got ${verdict.status}`);
  return verdict;
}

function refused(
  verdict: Verdict<Decision | undefined>,
): Reply & { problem: Record<string, unknown> } {
  if (verdict.pass) throw new Error('expected a refusal');
  return { ...verdict, problem: JSON.parse(String(verdict.body)) as Record<string, unknown> };
}

describe('rateLimitGuard', () => {
  test('decides at once with a store in this process, and tells every response where it stands', () => {
    const limiter = createRateLimiter({
      store: memoryRateLimitStore({ now }),
      policies: { p: two },
    });
    const guard = rateLimitGuard(limiter);
    const verdict = guard(request(), {}) as Verdict<Decision | undefined>;
    expect(passed(verdict).context).toMatchObject({ allowed: true, remaining: 1 });
    expect(passed(verdict).headers?.map(([name]) => name)).toEqual([
      'x-ratelimit-limit',
      'x-ratelimit-remaining',
      'x-ratelimit-reset',
      'ratelimit-policy',
      'ratelimit',
    ]);
  });

  test('refuses with 429 and names the violated policies', async () => {
    const limiter = createRateLimiter({
      store: memoryRateLimitStore({ now }),
      policies: { p: [...two, fixedWindow({ limit: 5, windowSeconds: 3600 })] },
    });
    const guard = rateLimitGuard(limiter);
    await guard(request(), {});
    await guard(request(), {});
    const reply = refused(await guard(request(), {}));
    expect(reply.status).toBe(429);
    expect(reply.problem).toEqual({
      type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
      title: 'Request cannot be satisfied as assigned quota has been exceeded',
      status: 429,
      'violated-policies': ['p-60s'],
    });
    const headers = Object.fromEntries(reply.headers);
    expect(headers['content-type']).toBe('application/problem+json');
    expect(Number(headers['retry-after'])).toBeGreaterThan(0);
    expect(passed(await guard(request('192.0.2.2'), {})).pass).toBe(true);
  });

  test('names no policy where none is violated: the subject is paused as a whole', async () => {
    const limiter = createRateLimiter({
      store: memoryRateLimitStore({ now }),
      policies: { p: two },
    });
    await limiter.restrict('s', { remaining: 0, durationMs: 5000 });
    const reply = refused(await rateLimitGuard(limiter, { key: () => 's' })(request(), {}));
    expect(reply.status).toBe(429);
    expect(Object.fromEntries(reply.headers)['retry-after']).toBe('5');
    expect(JSON.parse(String(reply.body))).not.toHaveProperty('violated-policies');
  });

  test('chooses subject, policy and cost by request and by what earlier guards found out', async () => {
    const limiter = createRateLimiter({
      store: memoryRateLimitStore({ now }),
      policies: { free: two, paid: [fixedWindow({ limit: 100, windowSeconds: 60 })] },
    });
    const guard = rateLimitGuard<'free' | 'paid', { principal: { id: string; paying: boolean } }>(
      limiter,
      {
        key: (_, { principal }) => principal.id,
        policy: (_, { principal }) => (principal.paying ? 'paid' : 'free'),
        cost: ({ method }) => (method === 'POST' ? 2 : 1),
      },
    );
    const free = { principal: { id: 'a', paying: false } };
    const paid = { principal: { id: 'b', paying: true } };
    passed(await guard(request('192.0.2.1', { method: 'POST' }), free));
    expect(refused(await guard(request('192.0.2.9'), free)).status).toBe(429);
    expect(passed(await guard(request(), paid)).context?.remaining).toBe(99);
  });

  test('by address before authentication, by principal after it, and by route', async () => {
    const limiter = createRateLimiter({
      store: memoryRateLimitStore({ now }),
      policies: {
        strangers: [fixedWindow({ limit: 5, windowSeconds: 60 })],
        clients: two,
        exports: [fixedWindow({ limit: 1, windowSeconds: 60 })],
      },
    });
    const identity = ({ headers }: GuardRequest): Verdict<string> => ({
      pass: true,
      context: headers.get('x-api-key') ?? 'nobody',
    });
    const guards = chain()
      .use('stranger', rateLimitGuard(limiter, { policy: 'strangers' }))
      .use('principal', identity)
      .use(
        'limit',
        rateLimitGuard<'strangers' | 'clients' | 'exports', { principal: string }>(limiter, {
          key: (_, { principal }) => principal,
          policy: ({ route }) => (route === '/exports/:id' ? 'exports' : 'clients'),
        }),
      );
    const ask = async (id: string, address: string, route = '/things'): Promise<string> => {
      const headers = {
        get: (name: string) => (name === 'x-api-key' ? id : undefined),
        all: () => [],
      };
      const verdict = await guards(request(address, { headers, route }), {});
      if (verdict.pass) return 'passed';
      const problem = JSON.parse(String(verdict.body)) as { 'violated-policies': string[] };
      return problem['violated-policies'].join();
    };
    expect(await ask('a', '2001:db8::1')).toBe('passed');
    // Wherever it comes from, a principal is a principal.
    expect(await ask('a', '2001:db8:0:100::1')).toBe('passed');
    expect(await ask('a', '2001:db8:0:100::1')).toBe('clients');
    expect(await ask('b', '2001:db8::2', '/exports/:id')).toBe('passed');
    expect(await ask('b', '2001:db8::2', '/exports/:id')).toBe('exports');
    expect(await ask('b', '2001:db8::2')).toBe('passed');
    // And whoever it says it is, a network is a network.
    expect(await ask('c', '2001:db8::3')).toBe('passed');
    expect(await ask('d', '2001:db8::4')).toBe('strangers');
  });

  test('limits nobody where there is no subject', async () => {
    const limiter = createRateLimiter({
      store: memoryRateLimitStore({ now }),
      policies: { p: two },
    });
    const guard = rateLimitGuard(limiter, { key: () => undefined });
    for (let count = 0; count < 5; count += 1)
      expect(passed(await guard(request(), {})).context).toBeUndefined();
  });

  test('answers 403 to who is denied, and 429 without Retry-After to what is impossible', async () => {
    const limiter = createRateLimiter({
      store: memoryRateLimitStore({ now }),
      policies: { p: two },
      deny: (subject) => subject === 'ip:192.0.2.66',
    });
    expect(refused(await rateLimitGuard(limiter)(request('192.0.2.66'), {})).status).toBe(403);
    const impossible = refused(await rateLimitGuard(limiter, { cost: 3 })(request(), {}));
    expect(impossible.status).toBe(429);
    expect(impossible.headers.map(([name]) => name)).not.toContain('retry-after');
  });

  test('answers 503 where the store is down and nothing else was chosen', async () => {
    const store = {
      ...memoryRateLimitStore({ now }),
      sync: false,
      consume: async () => Promise.reject(new Error('down')),
    } as RateLimitStore;
    const closed = createRateLimiter({ store, policies: { p: two } });
    const reply = refused(await rateLimitGuard(closed)(request(), {}));
    expect(reply.status).toBe(503);
    expect(Object.fromEntries(reply.headers)['retry-after']).toBe('1');
    expect(String(reply.body)).not.toContain('down');
    const open = createRateLimiter({ store, policies: { p: two }, onStoreError: 'open' });
    expect(passed(await rateLimitGuard(open)(request(), {})).headers).toEqual([]);
  });

  test('releases its slot when the response is finished', async () => {
    const limiter = createRateLimiter({
      store: memoryRateLimitStore({ now }),
      policies: { p: [concurrency({ limit: 1 })] },
    });
    const guard = rateLimitGuard(limiter);
    const first = passed(await guard(request(), {}));
    expect(refused(await guard(request(), {})).status).toBe(429);
    await first.settle?.({ ...outcome, status: 200 });
    expect(passed(await guard(request(), {})).pass).toBe(true);
  });

  test('charges what a request turned out to cost', async () => {
    const limiter = createRateLimiter({
      store: memoryRateLimitStore({ now }),
      policies: { p: [fixedWindow({ limit: 100, windowSeconds: 60 })] },
    });
    const guard = rateLimitGuard(limiter, {
      cost: 10,
      actualCost: (status, body) => (status === 304 ? 0 : body?.byteLength),
    });
    const settle = async (status: number, body?: Uint8Array): Promise<void> => {
      const { settle: finish } = passed(await guard(request(), {}));
      await finish?.({ ...outcome, status, ...(body && { body }) });
    };
    await settle(200, new Uint8Array(30));
    await settle(304);
    await settle(200);
    expect((await limiter.peek('ip:192.0.2.1')).remaining).toBe(60);
  });
});

describe('a slot is given back', () => {
  const policies = {
    p: [concurrency({ limit: 1 }), fixedWindow({ limit: 10, windowSeconds: 60 })],
  };

  test.each([
    [
      'throws',
      (): never => {
        throw new Error('no idea');
      },
    ],
    ['is nonsense', () => Number.NaN],
  ])('even where the actual cost %s', async (_, actualCost) => {
    const limiter = createRateLimiter({ store: memoryRateLimitStore({ now }), policies });
    const guard = rateLimitGuard(limiter, { actualCost });
    const { settle } = passed(await guard(request(), {}));
    await expect(settle?.({ ...outcome, status: 200 })).rejects.toThrow();
    expect((await limiter.peek('ip:192.0.2.1')).policies).toMatchObject([
      { remaining: 1 },
      { remaining: 9 },
    ]);
  });

  test('when a guard behind refuses', async () => {
    const limiter = createRateLimiter({ store: memoryRateLimitStore({ now }), policies });
    const strict = createRateLimiter({
      store: memoryRateLimitStore({ now }),
      policies: { strict: two },
    });
    const guards = chain()
      .use('slot', rateLimitGuard(limiter))
      .use('limit', rateLimitGuard(strict, { cost: 2 }));
    expect((await guards(request(), {})).pass).toBe(true);
    await limiter.reset('ip:192.0.2.1');
    const reply = (await guards(request(), {})) as Reply;
    expect(reply.status).toBe(429);
    expect((await limiter.peek('ip:192.0.2.1')).policies[0]?.remaining).toBe(1);
    const lines = reply.headers.filter(([name]) => name === 'ratelimit').map(([, value]) => value);
    // Both stand beside each other; of what can be there once only, adapters send the last: that of the guard that refused.
    expect(lines.map((line) => line.match(/"[^"]*"/g))).toEqual([
      ['"p-concurrency"', '"p-60s"'],
      ['"strict"'],
    ]);
    expect(reply.headers.findLast(([name]) => name === 'x-ratelimit-limit')?.[1]).toBe('2');
  });
});

test.each([undefined, {}, { limiter: {} }])(
  'a guard refuses %j for a limiter when it is made',
  (limiter) => {
    expect(() => rateLimitGuard(limiter as never)).toThrow(/^limiter: /);
  },
);

test.each([
  ['cost', { cost: 0 }],
  ['cost', { cost: 1.5 }],
  ['headers.style', { headers: { style: 'rfc' as never } }],
  ['headers.draft', { headers: { draft: 8 as never } }],
  ['headers.now', { headers: { now: 5 as never } }],
  ['key', { key: 'ip' as never }],
  ['actualCost', { actualCost: 5 as never }],
  ['policy', { policy: 5 as never }],
] as const)('a guard refuses a %s that makes no sense when it is made', (option, options) => {
  const limiter = createRateLimiter({ store: memoryRateLimitStore({ now }), policies: { p: two } });
  expect(() => rateLimitGuard(limiter, options)).toThrow(new RegExp(`^${option}: `));
});

test('a request that passed only because its set is a shadow gives nothing back that it was not charged', async () => {
  const limiter = createRateLimiter({
    store: memoryRateLimitStore({ now }),
    policies: { p: { limits: two, shadow: true } },
  });
  await limiter.check('ip:192.0.2.1', { cost: 2 });
  const guard = rateLimitGuard(limiter, { cost: 2, actualCost: () => 1 });
  const { settle } = passed(await guard(request(), {}));
  await settle?.({ ...outcome, status: 200 });
  expect((await limiter.peek('ip:192.0.2.1')).remaining).toBe(0);
});

describe('addressKey', () => {
  test.each([
    ['192.0.2.1', 'ip:192.0.2.1'],
    ['::ffff:192.0.2.1', 'ip:192.0.2.1'],
    ['2001:db8:1:2:3:4:5:6', 'ip:2001:db8:1::/56'],
    ['2001:db8:1:ff:ffff:ffff:ffff:ffff', 'ip:2001:db8:1::/56'],
    ['2001:db8:1:100::1', 'ip:2001:db8:1:100::/56'],
    ['fe80::1%eth0', 'ip:fe80::/56'],
    // Behind a translator all of IPv4 comes from one network.
    ['64:ff9b::192.0.2.1', 'ip:192.0.2.1'],
    ['64:ff9b::c000:202', 'ip:192.0.2.2'],
    ['::ffff:0:192.0.2.1', 'ip:192.0.2.1'],
    ['0x7f.1', 'ip:unknown'],
    ['010.0.0.1', 'ip:unknown'],
    ['', 'ip:unknown'],
    ['not an address', 'ip:unknown'],
  ])('%s → %s', (address, key) => {
    expect(addressKey(address)).toBe(key);
  });

  test('somebody who rotates through a /64 stays one subject', () => {
    const keys = new Set(
      Array.from({ length: 1000 }, (_, index) => addressKey(`2001:db8::${index.toString(16)}`)),
    );
    expect(keys.size).toBe(1);
  });

  test.each([0, 129, 1.5, Number.NaN])('refuses a prefix of %d bits', (ipv6PrefixLength) => {
    expect(() => addressKey('::1', { ipv6PrefixLength })).toThrow(/^ipv6PrefixLength: /);
  });
});

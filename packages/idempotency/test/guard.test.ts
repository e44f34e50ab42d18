import {
  chain,
  type HeaderEntry,
  type Outcome,
  type Reply,
  type Verdict,
} from '@countersign/guard';
import { fakeClock } from '@countersign/testkit/clock';
import { afterEach, beforeEach, describe, expect, expectTypeOf, type Mock, test, vi } from 'vitest';
import {
  type IdempotencyGuardOptions,
  idempotencyGuard,
  type RequestRecovery,
} from '../src/guard.ts';
import type { Execution } from '../src/idempotency.ts';
import { memoryIdempotencyStore } from '../src/memory.ts';
import type { IdempotencyStore } from '../src/store.ts';
import { record } from './events.ts';
import { passed, problemIn, type RequestInit, refused, requestOf } from './request.ts';

const key = '"8e03978e-40d5-43dd-bc93-6894a57f9324"';
const leaseMs = 30_000;

let send: (init?: RequestInit, caller?: string) => Promise<Verdict<Execution>>;
let store: IdempotencyStore;

function mount(options: Partial<IdempotencyGuardOptions<{ caller: string }>> = {}): void {
  const guard = idempotencyGuard<{ caller: string }>({
    store,
    principal: (_, { caller }) => caller,
    ...options,
  });
  send = async (init = {}, caller = 'alice') =>
    await guard(requestOf({ key, ...init }), { caller });
}

beforeEach(() => {
  vi.useFakeTimers({ now: Date.UTC(2026, 0, 1) });
  store = memoryIdempotencyStore();
  mount();
});

afterEach(() => {
  vi.useRealTimers();
});

const created: Outcome = {
  status: 201,
  headers: [['Content-Type', 'application/json']],
  body: Buffer.from('{"id":1}'),
  aborted: false,
};

describe('the first request', () => {
  test('passes with its key, a fence and a signal', async () => {
    const { context } = passed(await send());
    expect(context.key).toBe('8e03978e-40d5-43dd-bc93-6894a57f9324');
    expect(context.fence).toBeGreaterThan(0);
    expect(context.signal.aborted).toBe(false);
    expectTypeOf(context.fence).toEqualTypeOf<number | undefined>();
  });

  test('tells how long its key is kept', async () => {
    const { headers } = passed(await send());
    expect(headers).toEqual([['idempotency-expires', 'Fri, 02 Jan 2026 00:00:00 GMT']]);
  });

  test('is stored before its settlement is over', async () => {
    await passed(await send()).settle?.(created);
    expect(refused(await send()).status).toBe(201);
  });
});

describe('a retry after the outcome', () => {
  test.each([
    ['201', created],
    ['204 without a body', { ...created, status: 204, headers: [], body: new Uint8Array() }],
    ['402', { ...created, status: 402 }],
    ['500', { ...created, status: 500, body: Buffer.from('broken') }],
    ['binary', { ...created, body: Buffer.from([0, 10, 10, 13, 255, 254, 1]) }],
    ['1 MiB', { ...created, body: Buffer.alloc(1024 * 1024, 'ab\n\n') }],
  ])('gets the same bytes: %s', async (_, outcome: Outcome) => {
    await passed(await send()).settle?.(outcome);
    const reply = refused(await send());
    expect(reply.status).toBe(outcome.status);
    expect(Buffer.from(reply.body ?? '').equals(outcome.body as Buffer)).toBe(true);
  });

  test('is marked as replayed, with the lifetime of the key', async () => {
    await passed(await send()).settle?.(created);
    vi.setSystemTime(Date.now() + 3_600_000);
    expect(refused(await send()).headers).toEqual([
      ['content-type', 'application/json'],
      ['idempotency-replayed', 'true'],
      ['idempotency-expires', 'Fri, 02 Jan 2026 00:00:00 GMT'],
    ]);
  });

  test('runs again when the key has expired', async () => {
    await passed(await send()).settle?.(created);
    vi.setSystemTime(Date.now() + 86_400_000);
    passed(await send());
  });

  test('gets header fields that are on the list, and never a cookie', async () => {
    mount({ replayHeaders: ['X-Payment-Id'] });
    const headers: HeaderEntry[] = [
      ['Location', '/payments/1'],
      ['X-Payment-Id', '1'],
      ['Set-Cookie', 'session=secret'],
      ['Set-Cookie', 'other=secret'],
      ['X-Request-Id', 'abc'],
      ['Connection', 'keep-alive'],
      ['Transfer-Encoding', 'chunked'],
      ['Content-Length', '8'],
      ['Date', 'Thu, 01 Jan 2026 00:00:00 GMT'],
      ['Strict-Transport-Security', 'max-age=1'],
      ['Link', '<a>; rel=a'],
      ['Link', '<b>; rel=b'],
      ['Cache-Control', 'private'],
      ['Cache-Control', 'max-age=60'],
    ];
    await passed(await send()).settle?.({ ...created, headers });
    const { headers: replayed } = refused(await send());
    expect(replayed).toContainEqual(['cache-control', 'private, max-age=60']);
    expect(replayed.map(([name]) => name)).toEqual([
      'location',
      'x-payment-id',
      'link',
      'link',
      'cache-control',
      'idempotency-replayed',
      'idempotency-expires',
    ]);
  });

  test.each([
    ...['Set-Cookie', 'Set-Cookie2', 'a b'],
    // Of one connection (RFC 9110 §7.6.1, §6.6.2, §11.7.1).
    ...['Connection', 'Keep-Alive', 'Proxy-Connection', 'TE', 'Transfer-Encoding', 'Upgrade'],
    ...['Trailer', 'Proxy-Authenticate'],
    // Of one exchange.
    ...['Date', 'Content-Length', 'Correlation-Id', 'X-Correlation-Id', 'Request-Id'],
    ...['X-Request-Id', 'traceparent', 'tracestate', 'Server-Timing'],
    ...['Idempotency-Expires', 'Idempotency-Replayed'],
  ])('cannot be made to carry %s', (name) => {
    expect(() => mount({ replayHeaders: [name] })).toThrow(/^replayHeaders: /);
  });

  test('of a HEAD request keeps the length it stated', async () => {
    mount({ required: ['HEAD /payments'] });
    const outcome = { ...created, headers: [['Content-Length', '42'] as const], body: Buffer.of() };
    await passed(await send({ method: 'HEAD' })).settle?.(outcome);
    expect(refused(await send({ method: 'HEAD' })).headers).toContainEqual([
      'content-length',
      '42',
    ]);
  });
});

describe('a response that cannot be kept', () => {
  test.each([
    ['outgrew maxBodyBytes', Buffer.alloc(11)],
    ['was streamed', undefined],
  ])('leaves a tombstone: it %s', async (_, body) => {
    mount({ maxBodyBytes: 10 });
    const { body: __, ...rest } = created;
    await passed(await send()).settle?.({ ...rest, ...(body && { body }) });
    const reply = refused(await send());
    expect(reply.status).toBe(409);
    expect(problemIn(reply)).toMatchObject({
      code: 'ERR_IDEMPOTENCY_RESULT_NOT_STORED',
      originalStatus: 201,
    });
    expect(reply.headers).toContainEqual(['idempotency-replayed', 'true']);
  });

  test('is one byte larger than one that can', async () => {
    mount({ maxBodyBytes: 10 });
    await passed(await send()).settle?.({ ...created, body: Buffer.alloc(10, 'x') });
    expect(String(refused(await send()).body)).toBe('xxxxxxxxxx');
  });

  test('is larger than a mebibyte unless told otherwise', async () => {
    await passed(await send()).settle?.({ ...created, body: Buffer.alloc(2 ** 20 + 1) });
    expect(refused(await send()).status).toBe(409);
  });

  test('is refused when it streams, in the place of its first byte, and for good', async () => {
    const { streaming, settle } = passed(await send());
    const reply = (streaming as () => Reply)();
    expect(problemIn(reply)).toMatchObject({ status: 500, code: 'ERR_IDEMPOTENCY_STREAM_REFUSED' });
    const { status, headers, body } = reply;
    await settle?.({ status, headers, body: Buffer.from(String(body)), aborted: false });
    expect(refused(await send()).body?.toString()).toBe(body);
  });

  test('is no hindrance to a request that is not protected', async () => {
    expect(passed(await send({ key: undefined as never, path: '/other' }))).not.toHaveProperty(
      'streaming',
    );
  });

  test('leaves one too when its status cannot be sent by a guard', async () => {
    await passed(await send()).settle?.({ ...created, status: 700 });
    expect(problemIn(refused(await send()))).toMatchObject({
      code: 'ERR_IDEMPOTENCY_RESULT_NOT_STORED',
      originalStatus: 700,
    });
  });

  test('leaves one too when the store had no room for it', async () => {
    store = memoryIdempotencyStore({ maxBytes: 1000 });
    mount();
    await passed(await send()).settle?.({ ...created, body: Buffer.alloc(2000) });
    expect(problemIn(refused(await send()))).toMatchObject({
      code: 'ERR_IDEMPOTENCY_RESULT_NOT_STORED',
    });
  });
});

describe('the key', () => {
  test.each(['POST /payments', 'POST /transfers', 'POST /orders', 'POST /webhooks/a/b'])(
    'is required by default: %s',
    async (route) => {
      const [method, path] = route.split(' ') as [string, string];
      const reply = refused(await send({ method, path, key: undefined as never }));
      expect(reply.status).toBe(400);
      expect(problemIn(reply)).toMatchObject({
        code: 'ERR_IDEMPOTENCY_KEY_MISSING',
        title: 'Idempotency-Key is missing',
      });
    },
  );

  test.each([
    '/payments/',
    '//payments',
    '/Payments',
    '/%70ayments',
    '/./payments',
    '/a/../payments',
    '/webhooks',
    '/webhooks/%0A',
    '/%77ebhooks/%ff',
  ])('is required whatever the spelling: %s', async (path) => {
    expect(refused(await send({ path, key: undefined as never })).status).toBe(400);
  });

  test('is required by the route that the framework knows', async () => {
    mount({ required: ['POST /orders/:id/pay'] });
    const keyless = { key: undefined as never };
    expect(refused(await send({ path: '/orders/1/pay', ...keyless })).status).toBe(400);
    const mounted = { path: '/v1/x', route: '/orders/:id/pay', ...keyless };
    expect(refused(await send(mounted)).status).toBe(400);
    expect(refused(await send({ path: '/orders/1%2F2/pay', ...keyless })).status).toBe(400);
    passed(await send({ path: '/orders/1/2/pay', ...keyless }));
  });

  test.each(['GET', 'PUT', 'DELETE', 'HEAD', 'OPTIONS'])('does nothing to %s', async (method) => {
    const { context, settle } = passed(await send({ method }));
    expect(context.fence).toBeUndefined();
    expect(settle).toBeUndefined();
    passed(await send({ method }));
  });

  test('is optional elsewhere', async () => {
    const unkeyed = passed(await send({ path: '/notes', key: undefined as never }));
    expect(unkeyed.context).toMatchObject({ key: undefined, fence: undefined });
    unkeyed.context.notExecuted();
  });

  test.each(['POST', 'PATCH'])('protects %s elsewhere too', async (method) => {
    await passed(await send({ method, path: '/notes' })).settle?.(created);
    expect(refused(await send({ method, path: '/notes' })).status).toBe(201);
  });

  test.each(['""', '"unfinished', 'a, b', '"a";v=1', 'ünicode', `"${'a'.repeat(256)}"`])(
    'is refused when malformed: %s',
    async (malformed) => {
      const reply = refused(await send({ key: malformed }));
      expect(reply.status).toBe(400);
      expect(problemIn(reply)).toMatchObject({ code: 'ERR_IDEMPOTENCY_KEY_MALFORMED' });
      expect(String(reply.body)).not.toContain('unfinished');
    },
  );

  test('is refused when sent twice', async () => {
    const reply = refused(await send({ headers: [['idempotency-key', key]] }));
    expect(problemIn(reply)).toMatchObject({ code: 'ERR_IDEMPOTENCY_KEY_MALFORMED' });
  });

  test('is the same with and without quotes', async () => {
    await passed(await send()).settle?.(created);
    expect(refused(await send({ key: key.slice(1, -1) })).status).toBe(201);
    mount({ unquotedKeys: false });
    expect(refused(await send({ key: key.slice(1, -1) })).status).toBe(400);
  });

  test('belongs to its caller', async () => {
    await passed(await send({}, 'alice')).settle?.(created);
    passed(await send({}, 'bob'));
  });

  // Whatever is no text would be the same text for everybody.
  test.each([['', undefined, Promise.resolve('alice'), { id: 1 }]].flat())(
    'of nobody is refused loudly: %o',
    async (nobody) => {
      mount({ principal: () => nobody as string });
      await expect(send()).rejects.toMatchObject({ code: 'ERR_IDEMPOTENCY_PRINCIPAL_MISSING' });
    },
  );

  test('cannot be confused by where one part ends and the next begins', async () => {
    passed(await send({ key: '"b"' }, 'a","POST'));
    passed(await send({ key: '"POST\\",\\"b"' }, 'a'));
  });
});

describe('the same key with another request', () => {
  test.each<[string, RequestInit]>([
    ['body', { body: '{"amount":2}' }],
    ['content type', { headers: [['content-type', 'text/plain']] }],
    ['query', { query: 'currency=EUR' }],
    ['spelling of the query', { query: 'to=%ff' }],
    ['query of bytes that are no text', { query: 'to=%FE' }],
    ['path of the same route', { path: '/payments/2', route: '/payments/:id' }],
  ])('is refused, finished or in flight: another %s', async (_, other) => {
    const first = {
      path: '/payments/1',
      route: '/payments/:id',
      query: 'to=%FF',
      body: '{"amount":1}',
    };
    const { settle } = passed(await send(first));
    expect(refused(await send({ ...first, ...other })).status).toBe(422);
    await settle?.(created);
    const reply = refused(await send({ ...first, ...other }));
    expect(reply.status).toBe(422);
    expect(problemIn(reply)).toMatchObject({ code: 'ERR_IDEMPOTENCY_KEY_REUSED' });
  });

  test('leaves nothing in the store by which its body could be guessed', async () => {
    const begin = vi.spyOn(store, 'begin');
    await send();
    await send({ key: '"another"' });
    await send({}, 'bob');
    const [first, ...others] = begin.mock.calls.map(([{ fingerprint }]) => fingerprint);
    expect(others).toHaveLength(2);
    expect(others).not.toContain(first);
  });

  test('is another request on another route or method', async () => {
    passed(await send());
    passed(await send({ path: '/transfers' }));
    passed(await send({ method: 'PATCH' }));
  });

  test.each(['/Payments', '/payments/', '//payments', '/x/../payments'])(
    'is no other request because its path is spelled differently: %s',
    async (path) => {
      passed(await send());
      expect(refused(await send({ path })).status).toBe(422);
    },
  );
});

describe('a request in flight', () => {
  test('is answered 409 with Retry-After', async () => {
    passed(await send());
    const reply = refused(await send());
    expect(reply.status).toBe(409);
    expect(reply.headers).toContainEqual(['retry-after', '1']);
    expect(problemIn(reply)).toMatchObject({
      code: 'ERR_IDEMPOTENCY_IN_PROGRESS',
      title: 'Request already in progress',
    });
  });

  describe('is waited for when asked to', () => {
    let begin: Mock<IdempotencyStore['begin']>;

    beforeEach(async () => {
      begin = vi.fn(store.begin);
      store = { ...store, begin };
      mount({ waitMs: 10_000 });
    });

    test('and gets the outcome', async () => {
      const { settle } = passed(await send());
      const waiting = send();
      await vi.advanceTimersByTimeAsync(5000);
      await settle?.(created);
      await vi.advanceTimersByTimeAsync(500);
      expect(refused(await waiting).status).toBe(201);
    });

    test('no longer than asked to', async () => {
      passed(await send());
      const answered = vi.fn();
      const waiting = send().finally(answered);
      await vi.advanceTimersByTimeAsync(9999);
      expect(answered).not.toHaveBeenCalled();
      await vi.advanceTimersByTimeAsync(1);
      expect(answered).toHaveBeenCalled();
      expect(refused(await waiting).status).toBe(409);
    });

    test('ever less often, so that the store is not flooded', async () => {
      passed(await send());
      begin.mockClear();
      const waiting = send();
      for (const [ms, times] of [
        [20, 2],
        [30, 3],
        [1000, 9],
        [5000, 19],
      ] as const) {
        await vi.advanceTimersByTimeAsync(ms);
        expect(begin).toHaveBeenCalledTimes(times);
      }
      await vi.advanceTimersByTimeAsync(10_000);
      await waiting;
    });

    test('until the caller leaves', async () => {
      passed(await send());
      begin.mockClear();
      const caller = new AbortController();
      const waiting = send({ signal: caller.signal });
      await vi.advanceTimersByTimeAsync(10);
      caller.abort();
      expect(refused(await waiting).status).toBe(409);
      expect(begin).toHaveBeenCalledTimes(1);
    });

    test('by a clock that is put back, too', async () => {
      passed(await send());
      const waiting = send();
      await vi.advanceTimersByTimeAsync(100);
      vi.setSystemTime(Date.now() - 3_600_000);
      await vi.advanceTimersByTimeAsync(9900);
      expect(refused(await waiting).status).toBe(409);
    });

    test('including the time that the store takes to answer', async () => {
      passed(await send());
      begin.mockImplementation(async () => {
        await new Promise((resolve) => setTimeout(resolve, 4000));
        return { state: 'processing' };
      });
      const waiting = send();
      await vi.advanceTimersByTimeAsync(3 * 4000 + 20 + 30);
      expect(refused(await waiting).status).toBe(409);
    });
  });

  test('is not begun when the caller has left meanwhile, nor is anybody asked how it ended before', async () => {
    const onUnknown = vi.fn(async () => 'rerun' as const);
    mount({ onUnknown });
    expect(refused(await send({ signal: AbortSignal.abort() })).status).toBe(409);
    await passed(await send()).settle?.({ status: 0, headers: [], aborted: true });
    expect(refused(await send({ signal: AbortSignal.abort() })).status).toBe(409);
    expect(onUnknown).not.toHaveBeenCalled();
    passed(await send());
    expect(onUnknown).toHaveBeenCalledTimes(1);
  });

  test('stays in flight as long as its handler runs, however long', async () => {
    const { context } = passed(await send());
    await vi.advanceTimersByTimeAsync(10 * leaseMs);
    expect(context.signal.aborted).toBe(false);
    expect(problemIn(refused(await send()))).toMatchObject({
      code: 'ERR_IDEMPOTENCY_IN_PROGRESS',
    });
  });
});

test('no header field of the caller skips the handler', async () => {
  const headers: HeaderEntry[] = [
    ['X-Hit', 'true'],
    ['Idempotency-Replayed', 'true'],
    ['Cache-Control', 'only-if-cached'],
  ];
  const { settle } = passed(await send({ headers }));
  await settle?.(created);
  expect(refused(await send()).status).toBe(201);
});

test('what is stored can be encrypted, and is replayed all the same', async () => {
  const complete = vi.spyOn(store, 'complete');
  mount({ encryptionKeys: [Buffer.alloc(32, 7)] });
  await passed(await send()).settle?.(created);
  expect(complete).toHaveBeenCalledTimes(1);
  expect(Buffer.from(complete.mock.calls[0]?.[1] ?? []).includes('"id"')).toBe(false);
  expect(String(refused(await send()).body)).toBe('{"id":1}');
});

test('what was found out about an unknown outcome is encrypted too', async () => {
  const complete = vi.spyOn(store, 'complete');
  const encryptionKeys = [Buffer.alloc(32, 7)];
  mount({ encryptionKeys, onUnknown: async () => ({ status: 201, body: 'found' }) });
  await passed(await send()).settle?.({ status: 0, headers: [], aborted: true });
  await send();
  expect(complete).toHaveBeenCalledTimes(1);
  expect(Buffer.from(complete.mock.calls[0]?.[1] ?? []).includes('found')).toBe(false);
  expect(String(refused(await send()).body)).toBe('found');
});

describe('notExecuted', () => {
  test('frees the key, for a corrected request too', async () => {
    const { context, settle } = passed(await send({ body: 'bad' }));
    context.notExecuted();
    await settle?.({ ...created, status: 400 });
    passed(await send({ body: 'good' }));
  });

  test('holds even when the caller left', async () => {
    const { context, settle } = passed(await send());
    context.notExecuted();
    await settle?.({ status: 0, headers: [], aborted: true });
    passed(await send());
  });

  test('need not be called when a later guard refused: the handler never ran', async () => {
    const limited = chain<{ caller: string }>()
      .use('idempotency', idempotencyGuard({ store, principal: () => 'alice' }))
      .use('limit', () => ({ pass: false, status: 429, headers: [] }));
    const context = { caller: 'alice' };
    expect(refused(await limited(requestOf({ key }), context)).status).toBe(429);
    expect(refused(await limited(requestOf({ key }), context)).status).toBe(429);
    passed(await send());
  });
});

test('what a crash leaves is remembered for longer than its lease, however short its lifetime', async () => {
  const clock = fakeClock();
  store = memoryIdempotencyStore({ now: clock.now });
  mount({ ttlMs: 2 * leaseMs });
  passed(await send());
  vi.clearAllTimers(); // the process died
  clock.advance(2 * leaseMs - 1);
  expect(problemIn(refused(await send()))).toMatchObject({
    code: 'ERR_IDEMPOTENCY_OUTCOME_UNKNOWN',
  });
});

describe('an unknown outcome', () => {
  const interrupt = async (): Promise<void> => {
    await passed(await send()).settle?.({ status: 0, headers: [], aborted: true });
  };

  test('is refused by default, again and again', async () => {
    await interrupt();
    for (const _ of [1, 2]) {
      const reply = refused(await send());
      expect(reply.status).toBe(409);
      expect(problemIn(reply)).toMatchObject({ code: 'ERR_IDEMPOTENCY_OUTCOME_UNKNOWN' });
    }
  });

  test('is run again when told so, with a greater fence', async () => {
    mount({ onUnknown: 'rerun' });
    const first = passed(await send());
    await first.settle?.({ status: 0, headers: [], aborted: true });
    const second = passed(await send());
    expect(second.context.fence).toBeGreaterThan(first.context.fence as number);
  });

  test('is reconciled by a function, once, and replayed from then on', async () => {
    const hook = vi.fn(async () => ({
      status: 201,
      headers: [['Content-Type', 'text/plain']] as const,
      body: 'found',
    }));
    mount({ onUnknown: hook });
    await interrupt();
    const replies = [refused(await send()), refused(await send())];
    expect(hook).toHaveBeenCalledTimes(1);
    expect(hook).toHaveBeenCalledWith(
      expect.objectContaining({ key: key.slice(1, -1), principal: 'alice' }),
    );
    for (const { status, body } of replies) {
      expect([status, String(body)]).toEqual([201, 'found']);
    }
  });

  test.each([200, 599])('may be any final status: %i', async (status) => {
    mount({ onUnknown: async () => ({ status }) });
    await interrupt();
    expect(refused(await send()).status).toBe(status);
  });

  test.each([204, 205, 304])(
    'is answered without a body where HTTP knows none: %i',
    async (status) => {
      mount({ onUnknown: async () => ({ status, body: 'lost' }) });
      await interrupt();
      for (const _ of [1, 2]) {
        expect(refused(await send())).toMatchObject({ status });
        expect(refused(await send()).body).toBeUndefined();
      }
    },
  );

  test('is in flight while the function decides', async () => {
    let decide: (decision: 'rerun') => void = () => {};
    const decision = new Promise<'rerun'>((resolve) => {
      decide = resolve;
    });
    mount({ onUnknown: () => decision });
    await interrupt();
    const first = send();
    expect(problemIn(refused(await send()))).toMatchObject({ code: 'ERR_IDEMPOTENCY_IN_PROGRESS' });
    decide('rerun');
    passed(await first);
  });

  test.each([
    ['refuses', async () => 'refuse' as const],
    ['fails', async () => Promise.reject(new Error('the provider is down'))],
  ])('stays unknown when the function %s', async (_, hook) => {
    mount({ onUnknown: hook });
    await interrupt();
    await send().catch(() => {});
    mount();
    expect(problemIn(refused(await send()))).toMatchObject({
      code: 'ERR_IDEMPOTENCY_OUTCOME_UNKNOWN',
    });
  });

  test('stays unknown when the second run says that it did not execute', async () => {
    mount({ onUnknown: 'rerun' });
    await interrupt();
    const { context, settle } = passed(await send());
    context.notExecuted();
    await settle?.({ ...created, status: 429 });
    mount();
    expect(refused(await send()).status).toBe(409);
  });
});

describe('a decision about an unknown outcome', () => {
  const interrupt = async (): Promise<void> => {
    await passed(await send()).settle?.({ status: 0, headers: [], aborted: true });
  };

  test.each<[string, RequestRecovery]>([
    ['runs nothing', 'rerun'],
    ['does not count', { status: 201, body: 'found' }],
  ])('that comes when somebody else has taken the record %s', async (_, decided) => {
    const clock = fakeClock();
    store = memoryIdempotencyStore({ now: clock.now });
    mount({ onUnknown: 'rerun' });
    await interrupt();
    const newer = send;
    mount({
      onUnknown: async () => {
        clock.advance(leaseMs); // the process stood still while it decided
        passed(await newer());
        return decided;
      },
    });
    for (const _retry of [1, 2]) {
      expect(problemIn(refused(await send()))).toMatchObject({
        code: 'ERR_IDEMPOTENCY_IN_PROGRESS',
      });
    }
  });

  test('that the store cannot confirm runs nothing, and stays unknown', async () => {
    const memory = memoryIdempotencyStore();
    store = { ...memory, renew: vi.fn(memory.renew).mockRejectedValue(new Error('down')) };
    mount({ onUnknown: async () => 'rerun' as const, onStoreError: 'open' });
    await interrupt();
    expect(refused(await send()).status).toBe(503);
    mount();
    expect(problemIn(refused(await send()))).toMatchObject({
      code: 'ERR_IDEMPOTENCY_OUTCOME_UNKNOWN',
    });
  });

  test('that comes when the caller has left runs nothing, and it stays unknown', async () => {
    const caller = new AbortController();
    mount({
      onUnknown: async () => {
        caller.abort();
        return 'rerun' as const;
      },
    });
    await interrupt();
    expect(refused(await send({ signal: caller.signal })).status).toBe(409);
    mount();
    expect(problemIn(refused(await send()))).toMatchObject({
      code: 'ERR_IDEMPOTENCY_OUTCOME_UNKNOWN',
    });
  });

  test.each<[string, unknown]>([
    ['nothing', undefined],
    ['a word that means nothing', 'retry'],
    ['no final status', { status: 199 }],
    ['a status that nobody knows', { status: 600 }],
    ['a header without a name', { status: 201, headers: [['', 'x']] }],
    [
      'a header that smuggles another one',
      { status: 201, headers: [['etag', 'a\nset-cookie: b']] },
    ],
    ['a header that Latin-1 cannot hold', { status: 201, headers: [['etag', '\u20ac']] }],
    ['a body that is no bytes', { status: 201, body: { id: 1 } }],
  ])('that makes no sense leaves it unknown: %s', async (_, decided) => {
    mount({ onUnknown: async () => decided as never });
    await interrupt();
    await expect(send()).rejects.toThrow(/^onUnknown: /);
    mount();
    expect(problemIn(refused(await send()))).toMatchObject({
      code: 'ERR_IDEMPOTENCY_OUTCOME_UNKNOWN',
    });
  });
});

test('a handler whose outcome was given up learns that somebody else may run the request', async () => {
  const { context, settle } = passed(await send());
  const { signal } = context;
  await settle?.({ status: 0, headers: [], aborted: true });
  expect(signal.reason).toMatchObject({ code: 'ERR_IDEMPOTENCY_LEASE_LOST' });
});

test('a clock that is put back does not stop the renewals', async () => {
  const clock = fakeClock();
  store = memoryIdempotencyStore({ now: clock.now });
  mount();
  passed(await send());
  vi.setSystemTime(Date.now() - 3_600_000);
  clock.advance(leaseMs / 2);
  await vi.advanceTimersByTimeAsync(leaseMs / 2);
  clock.advance(leaseMs / 2);
  expect(problemIn(refused(await send()))).toMatchObject({ code: 'ERR_IDEMPOTENCY_IN_PROGRESS' });
});

describe('an owner that lost its lease', () => {
  test('is told by its signal, and its outcome does not count', async () => {
    const clock = fakeClock();
    store = memoryIdempotencyStore({ now: clock.now });
    mount({ onUnknown: 'rerun' });
    const stale = passed(await send());
    clock.advance(leaseMs); // the process stood still: no renewal was sent
    const newer = passed(await send());
    await vi.advanceTimersByTimeAsync(leaseMs / 3);
    expect(stale.context.signal.reason).toMatchObject({ code: 'ERR_IDEMPOTENCY_LEASE_LOST' });
    await stale.settle?.({ ...created, body: Buffer.from('stale') });
    await newer.settle?.({ ...created, body: Buffer.from('newer') });
    expect(String(refused(await send()).body)).toBe('newer');
  });
});

test('a renewal that is overtaken by the outcome does not cost the lease', async () => {
  const memory = memoryIdempotencyStore();
  let answer: (isHeld: boolean) => void = () => {};
  const renew = async (): Promise<boolean> =>
    new Promise((resolve) => {
      answer = resolve;
    });
  store = { ...memory, renew };
  mount();
  const { context, settle } = passed(await send());
  const { signal } = context;
  await vi.advanceTimersByTimeAsync(leaseMs / 2);
  await settle?.(created);
  answer(false); // the store saw the renewal after the outcome
  await vi.advanceTimersByTimeAsync(leaseMs);
  expect(signal.aborted).toBe(false);
  expect(refused(await send()).status).toBe(201);
});

describe('a store that fails', () => {
  const down = async (): Promise<never> => Promise.reject(new Error('store down'));

  test('at begin refuses with 503 and Retry-After', async () => {
    store = { ...memoryIdempotencyStore(), begin: down };
    mount();
    const reply = refused(await send());
    expect(reply.status).toBe(503);
    expect(reply.headers).toContainEqual(['retry-after', '1']);
    expect(problemIn(reply)).toMatchObject({ code: 'ERR_IDEMPOTENCY_STORE_UNAVAILABLE' });
    expect(String(reply.body)).not.toContain('store down');
  });

  test('is one whose encryption key cannot be had: what cannot be stored is not run', async () => {
    mount({ encryptionKeys: [async () => Promise.reject(new Error('vault'))] });
    expect(problemIn(refused(await send()))).toMatchObject({
      code: 'ERR_IDEMPOTENCY_STORE_UNAVAILABLE',
    });
    mount();
    passed(await send());
  });

  test('at begin passes without protection when the user chose so', async () => {
    store = { ...memoryIdempotencyStore(), begin: down };
    mount({ onStoreError: 'open' });
    const { context, settle } = passed(await send());
    expect(context.fence).toBeUndefined();
    expect(settle).toBeUndefined();
  });

  test('at begin, having granted the claim, gets it back: nothing was run', async () => {
    const memory = memoryIdempotencyStore();
    store = {
      ...memory,
      begin: async (claim, options) => {
        await memory.begin(claim, options);
        throw new Error('the answer was lost');
      },
      release: vi.fn(memory.release).mockRejectedValueOnce(new Error('still down')),
    };
    mount();
    expect(refused(await send()).status).toBe(503);
    await vi.advanceTimersByTimeAsync(leaseMs / 3);
    store = memory;
    mount();
    passed(await send());
  });

  test.each<[string, Partial<IdempotencyStore>]>([
    ['as long as a lease', { release: down }],
    ['once, with a record of somebody else', {}],
  ])('at begin %s has nobody lose a lease: none was given', async (_, failing) => {
    passed(await send());
    store = { ...store, begin: down, ...failing };
    mount();
    const { events, stop } = record();
    expect(refused(await send()).status).toBe(503);
    await vi.advanceTimersByTimeAsync(2 * leaseMs);
    stop();
    expect(events.map(([name]) => name)).toContain('store-error');
    expect(events.map(([name]) => name)).not.toContain('lease-lost');
  });

  test('at completion is asked again until it takes the outcome', async () => {
    const memory = memoryIdempotencyStore();
    store = {
      ...memory,
      complete: vi.fn(memory.complete).mockRejectedValueOnce(new Error('down')),
    };
    mount();
    await expect(passed(await send()).settle?.(created)).rejects.toThrow('down');
    expect(refused(await send()).status).toBe(409);
    await vi.advanceTimersByTimeAsync(leaseMs / 3);
    expect(refused(await send()).status).toBe(201);
  });

  test('for a whole lease makes the signal fire, and the outcome unknown', async () => {
    const memory = memoryIdempotencyStore();
    store = { ...memory, renew: down, complete: down };
    mount();
    const { context, settle } = passed(await send());
    const { signal } = context;
    await vi.advanceTimersByTimeAsync(leaseMs);
    expect(signal.aborted).toBe(true);
    await expect(settle?.(created)).rejects.toThrow('store down');
    await vi.advanceTimersByTimeAsync(2 * leaseMs);
    expect(problemIn(refused(await send()))).toMatchObject({
      code: 'ERR_IDEMPOTENCY_OUTCOME_UNKNOWN',
    });
    expect(vi.getTimerCount()).toBe(0);
  });

  test('because it is full is a store that fails', async () => {
    store = memoryIdempotencyStore({ maxEntries: 1 });
    mount();
    passed(await send());
    expect(refused(await send({ key: '"another"' })).status).toBe(503);
  });

  describe('with a record that cannot be read refuses, even when it may pass', () => {
    const expectUnreadable = async (): Promise<void> => {
      const reply = refused(await send());
      expect(reply.status).toBe(503);
      expect(problemIn(reply)).toMatchObject({ code: 'ERR_IDEMPOTENCY_RECORD_UNREADABLE' });
    };

    test('by us', async () => {
      mount({ onStoreError: 'open' });
      await passed(await send()).settle?.(created);
      mount({ onStoreError: 'open', encryptionKeys: [Buffer.alloc(32, 1)] });
      await expectUnreadable();
    });

    test('because it holds no response', async () => {
      const payload = Buffer.from('{"value":1}');
      const begin = async () => ({ state: 'completed', payload, expiresInMs: 1 }) as const;
      store = { ...memoryIdempotencyStore(), begin };
      mount({ onStoreError: 'open' });
      await expectUnreadable();
    });

    test('by a store of whatever origin', async () => {
      const code = 'ERR_IDEMPOTENCY_RECORD_UNREADABLE';
      const begin = async () => Promise.reject(Object.assign(new Error('version 2'), { code }));
      store = { ...memoryIdempotencyStore(), begin, release: vi.fn() };
      mount({ onStoreError: 'open' });
      await expectUnreadable();
      expect(store.release).not.toHaveBeenCalled();
    });
  });

  test('is reported, with what it was asked', async () => {
    const { events, stop } = record();
    store = { ...memoryIdempotencyStore(), begin: down, release: down };
    mount();
    await send();
    mount({ encryptionKeys: [async () => Promise.reject(new Error('vault'))] });
    await send();
    store = memoryIdempotencyStore();
    mount();
    await passed(await send()).settle?.(created);
    mount({ encryptionKeys: [Buffer.alloc(32, 1)] });
    await send();
    stop();
    const id = expect.stringMatching(/^[\w-]{43}$/);
    const error = expect.any(Error);
    expect(events.filter(([name]) => name === 'store-error')).toEqual(
      ['begin', 'release', 'encrypt', 'decrypt'].map((operation) => [
        'store-error',
        { id, operation, error },
      ]),
    );
  });
});

describe('refusals', () => {
  test('are problem documents whose type leads to their description', async () => {
    const reply = refused(await send({ key: undefined as never }));
    expect(reply.headers).toContainEqual(['content-type', 'application/problem+json']);
    const { type, status } = problemIn(reply);
    expect(status).toBe(400);
    expect(type).toMatch(/packages\/idempotency#key-missing$/);
  });

  test('link to your own documentation', async () => {
    mount({ documentation: 'https://developer.example.com/idempotency' });
    expect(refused(await send({ key: undefined as never })).headers).toContainEqual([
      'link',
      '<https://developer.example.com/idempotency>; rel="describedby"',
    ]);
  });
});

test('every step is published, and no key with it', async () => {
  const { events, stop } = record();
  await passed(await send()).settle?.(created);
  await send();
  await send({ body: 'other' });
  const released = passed(await send({ path: '/orders' }));
  released.context.notExecuted();
  await released.settle?.(created);
  await passed(await send({ path: '/transfers' })).settle?.({
    status: 0,
    headers: [],
    aborted: true,
  });
  stop();
  expect(events.map(([name]) => name)).toEqual([
    'started',
    'completed',
    'replayed',
    'refused',
    'started',
    'released',
    'started',
    'abandoned',
  ]);
  expect(JSON.stringify(events)).not.toContain(key.slice(1, -1));
});

test.each<[string, object]>([
  ['store', { store: undefined }],
  ['store', { store: memoryIdempotencyStore }],
  ['store', { store: { ...memoryIdempotencyStore(), abandon: undefined } }],
  ['principal', { principal: 'alice' }],
  ['leaseMs', { leaseMs: 0 }],
  ['ttlMs', { ttlMs: 2 * leaseMs - 1 }],
  ['waitMs', { waitMs: -1 }],
  ['maxBodyBytes', { maxBodyBytes: 0.5 }],
  ['onStoreError', { onStoreError: 'ignore' }],
  ['onUnknown', { onUnknown: 'retry' }],
  ['streaming', { streaming: 'flow' }],
  ['methods', { methods: ['post'] }],
  ['methods', { methods: 'POST' }],
  ['methods', { methods: ['ALL'] }],
  ['documentation', { documentation: '/idempotency' }],
  ['required', { required: ['/payments'] }],
  ['required', { required: true }],
  ['required', { required: [7] }],
  // A method that node:http does not know never comes, and nothing would be required.
  ['required', { required: ['ALL /payments'] }],
  ['replayHeaders', { replayHeaders: 'x-payment-id' }],
  ['replayHeaders', { replayHeaders: [7] }],
  ['encryptionKeys', { encryptionKeys: [] }],
  // What a variable that is not set leaves must not mean that nothing is encrypted.
  ['encryptionKeys', { encryptionKeys: '' }],
  ['encryptionKeys', { encryptionKeys: null }],
  ['now', { now: 0 }],
  ['requried', { requried: ['POST /payouts'] }],
  ['scope', { scope: 'payments' }],
  ['encryptionKeys', { encryptionKeys: [Buffer.alloc(16)] }],
])('a mistake in %s is reported by name', (option, mistake) => {
  expect(() => mount(mistake)).toThrow(TypeError);
  expect(() => mount(mistake)).toThrow(new RegExp(`^${option}: `));
});

import { getEventListeners } from 'node:events';
import type { RetryBudgetOptions } from '@countersign/retry';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  ClientError,
  type ClientOptions,
  type ClientResponse,
  createClient,
} from '../src/index.ts';
import { FakeDispatcher, type Reply } from './fake-dispatcher.ts';

beforeEach(() => {
  vi.useFakeTimers({ now: Date.UTC(2026, 10, 23) });
});
afterEach(() => {
  vi.useRealTimers();
});

function setUp(replies: readonly Reply[], options: Partial<ClientOptions> = {}) {
  const dispatcher = new FakeDispatcher(
    (index) => replies[Math.min(index, replies.length - 1)] ?? {},
  );
  const client = createClient({
    origin: 'https://api.example.com',
    egress: dispatcher,
    breaker: false,
    ...options,
  });
  return { client, dispatcher };
}

/** Lets a call run to its end on the fake clock; what it ended with, and when. */
async function settled(call: Promise<ClientResponse>): Promise<{
  response?: ClientResponse;
  error?: ClientError;
  tookMs: number;
}> {
  const startedAt = performance.now();
  const ended = call.then(
    (response) => ({ response, tookMs: performance.now() - startedAt }),
    (error: unknown) => {
      if (!(error instanceof ClientError)) throw error;
      return { error, tookMs: performance.now() - startedAt };
    },
  );
  await vi.runAllTimersAsync();
  return ended;
}

describe('the retry clock', () => {
  const reply: fc.Arbitrary<Reply> = fc
    .record(
      {
        status: fc.constantFrom(200, 400, 408, 409, 429, 500, 501, 502, 503, 504),
        errorCode: fc.constantFrom(
          'ECONNRESET',
          'ECONNREFUSED',
          'UND_ERR_SOCKET',
          'CERT_HAS_EXPIRED',
        ),
        retryAfterSeconds: fc.integer({ min: 0, max: 40 }),
        asDate: fc.boolean(),
        afterMs: fc.oneof(fc.integer({ min: 0, max: 15_000 }), fc.constant(Infinity)),
      },
      { requiredKeys: ['status', 'afterMs'] },
    )
    .map(({ retryAfterSeconds, asDate, errorCode, ...rest }) => ({
      ...rest,
      ...(errorCode === undefined ? {} : { errorCode }),
      headers: header(retryAfterSeconds, asDate, rest.afterMs),
    }));

  function header(seconds?: number, asDate?: boolean, afterMs = 0): Record<string, string> {
    if (seconds === undefined) return {};
    // A date is resolved when the response is read; the fake clock starts on a full second.
    const date = new Date(Date.UTC(2026, 10, 23) + Math.ceil(afterMs / 1000 + seconds) * 1000);
    return { 'retry-after': asDate && afterMs !== Infinity ? date.toUTCString() : String(seconds) };
  }

  test('is never early, never late, and never past the deadline', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(reply, { minLength: 1, maxLength: 6 }),
        fc.record({
          deadlineMs: fc.integer({ min: 1, max: 60_000 }),
          attemptTimeoutMs: fc.integer({ min: 1, max: 20_000 }),
          maxAttempts: fc.integer({ min: 1, max: 6 }),
          capMs: fc.integer({ min: 100, max: 5000 }),
        }),
        fc.boolean(),
        async (replies, { deadlineMs, attemptTimeoutMs, maxAttempts, capMs }, keyed) => {
          vi.setSystemTime(Date.UTC(2026, 10, 23));
          const { client, dispatcher } = setUp(replies, {
            deadlineMs,
            attemptTimeoutMs,
            retry: { maxAttempts, baseMs: 100, capMs },
            budget: false,
            idempotency: { methods: keyed ? ['POST'] : [] },
          });
          const startedAt = performance.now();
          const { response, error, tookMs } = await settled(client.post('/x', { json: {} }));
          const { requests } = dispatcher;

          expect(requests.length).toBeLessThanOrEqual(keyed ? maxAttempts : 1);
          expect((response ?? error)?.attempts).toBe(requests.length);
          // Timers have whole milliseconds.
          expect(tookMs).toBeLessThanOrEqual(deadlineMs + 1);
          expect(new Set(requests.map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
          for (const [index, request] of requests.entries()) {
            expect(request.atMs - startedAt).toBeLessThan(deadlineMs);
            const leftMs = Number(request.headers['request-timeout-ms']);
            expect(leftMs).toBe(Math.ceil(deadlineMs - (request.atMs - startedAt)));
            if (index === 0) continue;
            const before = requests[index - 1];
            const answer = replies[Math.min(index - 1, replies.length - 1)];
            if (!before || !answer) throw new TypeError('unreachable');
            const { afterMs = 0 } = answer;
            const waitedMs = request.atMs - (before.atMs + Math.min(afterMs, attemptTimeoutMs));
            const said = answer.headers?.['retry-after'];
            const heard =
              said !== undefined && afterMs < attemptTimeoutMs && answer.errorCode === undefined;
            const leastMs = !heard
              ? 0
              : /^\d+$/.test(said)
                ? Number(said) * 1000
                : Date.parse(said) - Date.now() + (performance.now() - (request.atMs - waitedMs));
            expect(waitedMs).toBeGreaterThanOrEqual(Math.max(0, leastMs) - 1e-6);
            expect(waitedMs).toBeLessThanOrEqual(
              Math.max(0, leastMs) + Math.min(capMs, 100 * 2 ** (index - 1)) + 2,
            );
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test('a Retry-After that does not fit the deadline ends the call at once', async () => {
    const { client, dispatcher } = setUp([{ status: 503, headers: { 'retry-after': '31' } }]);
    const { error, tookMs } = await settled(client.get('/x'));
    expect(error).toMatchObject({
      code: 'ERR_CLIENT_STATUS',
      status: 503,
      stopped: 'deadline',
      retryAfterMs: 31_000,
    });
    expect([dispatcher.requests.length, tookMs]).toEqual([1, 0]);
  });

  test.each(['-1', 'soon', '1.5', 'Fri, 99 Feb 2026 00:00:00 GMT', '١'])(
    'a Retry-After of %j is no instruction',
    async (value) => {
      const { client, dispatcher } = setUp([
        { status: 503, headers: { 'retry-after': value } },
        { status: 200 },
      ]);
      const { response, tookMs } = await settled(client.get('/x'));
      expect(response?.attempts).toBe(2);
      expect(tookMs).toBeLessThanOrEqual(100);
      expect(dispatcher.requests.length).toBe(2);
    },
  );

  test('an abort while it waits ends the call at once', async () => {
    const { client, dispatcher } = setUp([{ status: 503, headers: { 'retry-after': '20' } }]);
    const controller = new AbortController();
    const call = settled(client.get('/x', { signal: controller.signal }));
    setTimeout(() => controller.abort(new Error('enough')), 7000);
    const { error, tookMs } = await call;
    expect(error).toMatchObject({ code: 'ERR_CLIENT_ABORTED', attempts: 1 });
    expect(tookMs).toBe(7000);
    expect(dispatcher.requests.length).toBe(1);
    expect(vi.getTimerCount()).toBe(0);
  });
});

test('a signal that lives long keeps nothing of the calls it was given to', async () => {
  const { signal } = new AbortController();
  const { client } = setUp([{ status: 503 }, { afterMs: 5 }, { errorCode: 'ERR_X' }], {
    concurrency: { limit: 1 },
    hedge: { afterMs: 1 },
  });
  const calls = Array.from({ length: 10 }, () => settled(client.get('/x', { signal })));
  await Promise.all([...calls, settled(client.post('/x', { signal }))]);
  expect(getEventListeners(signal, 'abort')).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
});

describe('what is tried again', () => {
  test.each([
    [{ status: 408 }, true],
    [{ status: 429 }, true],
    [{ status: 500 }, true],
    [{ status: 502 }, true],
    [{ status: 503 }, true],
    [{ status: 504 }, true],
    [{ status: 409, headers: { 'retry-after': '0' } }, true],
    [{ status: 409 }, false],
    [{ status: 400 }, false],
    [{ status: 401 }, false],
    [{ status: 404 }, false],
    [{ status: 422 }, false],
    [{ status: 501 }, false],
    [{ status: 503, headers: { 'x-should-retry': 'false' } }, false],
    [{ status: 500, headers: { 'stripe-should-retry': 'false' } }, false],
    [{ errorCode: 'ECONNREFUSED' }, true],
    [{ errorCode: 'ECONNRESET' }, true],
    [{ errorCode: 'EPIPE' }, true],
    [{ errorCode: 'ENOTFOUND' }, true],
    [{ errorCode: 'UND_ERR_SOCKET' }, true],
    [{ errorCode: 'UND_ERR_CONNECT_TIMEOUT' }, true],
    [{ errorCode: 'ERR_EGRESS_DENIED' }, false],
    [{ errorCode: 'ERR_OAUTH_INVALID_CLIENT' }, false],
    [{ errorCode: 'CERT_HAS_EXPIRED' }, false],
    [{ errorCode: 'UND_ERR_INVALID_ARG' }, false],
  ] satisfies [Reply, boolean][])('%o: %s', async (reply, again) => {
    const { client, dispatcher } = setUp([reply, { status: 200 }]);
    const { response, error } = await settled(client.post('/x', { json: {} }));
    expect(dispatcher.requests.length).toBe(again ? 2 : 1);
    if (again) expect(response?.attempts).toBe(2);
    else expect(error?.attempts).toBe(1);
  });

  test.each([
    ['GET', true],
    ['HEAD', true],
    ['OPTIONS', true],
    ['PUT', true],
    ['DELETE', true],
    ['POST', false],
    ['PATCH', false],
    ['REPORT', false],
  ])('%s without a key: %s', async (method, again) => {
    const { client, dispatcher } = setUp([{ status: 503 }, { status: 200 }], {
      idempotency: { methods: [] },
    });
    const { error } = await settled(client.request(method, '/x'));
    expect(dispatcher.requests.length).toBe(again ? 2 : 1);
    expect(error?.stopped).toBe(again ? undefined : 'not_repeatable');
    expect(dispatcher.requests[0]?.headers['idempotency-key']).toBeUndefined();
  });

  test("a caller's own key is honoured, and makes any method repeatable", async () => {
    const { client, dispatcher } = setUp([{ status: 503 }, { status: 200 }]);
    await settled(client.request('REPORT', '/x', { idempotencyKey: 'order-7' }));
    expect(dispatcher.requests.map(({ headers }) => headers['idempotency-key'])).toEqual([
      '"order-7"',
      '"order-7"',
    ]);
  });

  test('a stream is never sent twice; one that can be made anew is', async () => {
    const once = async function* (): AsyncGenerator<string> {
      yield 'x';
    };
    const first = setUp([{ status: 503 }, { status: 200 }]);
    const { error } = await settled(first.client.post('/x', { body: once() }));
    expect([first.dispatcher.requests.length, error?.stopped]).toEqual([1, 'not_repeatable']);
    const second = setUp([{ status: 503 }, { status: 200 }]);
    const { response } = await settled(second.client.post('/x', { body: () => once() }));
    expect(response?.attempts).toBe(2);
  });

  test.each([
    ['Uint8Array', new TextEncoder().encode('amount=5')],
    ['Buffer', Buffer.from('amount=5')],
    ['view of a shared one', new Uint8Array(new TextEncoder().encode('xamount=5x').buffer, 1, 8)],
  ])(
    'a %s that the caller uses for something else meanwhile is sent as it was',
    async (_name, bytes) => {
      const sent: string[] = [];
      const dispatcher = new FakeDispatcher((index, { body }) => {
        sent.push(Buffer.from(body as Uint8Array).toString());
        bytes.fill(57);
        return { status: index < 2 ? 503 : 200 };
      });
      const client = createClient({ origin: 'https://api.example.com', egress: dispatcher });
      const call = settled(client.post('/x', { body: bytes }));
      bytes.fill(56);
      await call;
      expect(sent).toEqual(['amount=5', 'amount=5', 'amount=5']);
    },
  );

  test('an attempt that is too slow is given up and tried again', async () => {
    const { client, dispatcher } = setUp([{ afterMs: Infinity }, { status: 200 }], {
      attemptTimeoutMs: 1000,
    });
    const { response } = await settled(client.get('/x'));
    expect(response?.attempts).toBe(2);
    expect(dispatcher.requests[0]?.aborted).toBe(true);
  });

  test('says that all attempts timed out', async () => {
    const { client } = setUp([{ afterMs: Infinity }], { attemptTimeoutMs: 1000 });
    const { error } = await settled(client.get('/x'));
    expect(error).toMatchObject({
      code: 'ERR_CLIENT_ATTEMPT_TIMEOUT',
      attempts: 4,
      stopped: 'attempts_exhausted',
    });
  });
});

describe('the budget', () => {
  test('1,000 calls to a dead upstream make at most 1.25 times as many attempts', async () => {
    for (const breaker of [false, {}] as const) {
      const { client, dispatcher } = setUp([{ errorCode: 'ECONNREFUSED' }], {
        breaker,
        concurrency: false,
      });
      const calls = Array.from({ length: 1000 }, () => settled(client.get('/x')));
      await Promise.all(calls);
      expect(dispatcher.requests.length).toBeLessThanOrEqual(1250);
    }
  });

  test.each([
    [{ errorCode: 'ECONNREFUSED' }, 200],
    [{ status: 503 }, 600],
    [{ status: 429 }, 5000],
    [{ afterMs: Infinity }, 60_000],
  ] satisfies [Reply, number][])(
    '1,000 calls spread over minutes or hours, too, without a breaker: %o, one each %i ms',
    async (reply, everyMs) => {
      const { client, dispatcher } = setUp([reply]);
      for (let call = 0; call < 1000; call += 1) {
        await settled(client.get('/x'));
        await vi.advanceTimersByTimeAsync(everyMs);
      }
      expect(dispatcher.requests.length).toBeLessThanOrEqual(1250);
      expect(dispatcher.requests.length).toBeGreaterThan(1000);
    },
  );

  test('a quiet caller has its retries from the start, and again when a call has succeeded', async () => {
    let down = true;
    const dispatcher = new FakeDispatcher(() => ({ status: down ? 503 : 404 }));
    const client = createClient({ origin: 'https://api.example.com', egress: dispatcher });
    const attempts = async (): Promise<number> => {
      await vi.advanceTimersByTimeAsync(3_600_000);
      const { response, error } = await settled(client.get('/x'));
      return (response ?? error)?.attempts ?? 0;
    };
    expect(await attempts()).toBe(4);
    for (let hour = 0; hour < 10; hour += 1) await attempts();
    expect(await attempts()).toBe(1);
    down = false;
    expect(await attempts()).toBe(1);
    down = true;
    expect(await attempts()).toBe(4);
  });

  test('is visible in the error when it is used up', async () => {
    const { client } = setUp([{ status: 503 }], { budget: { ratio: 0, minPerSecond: 0 } });
    const { error } = await settled(client.get('/x'));
    expect(error).toMatchObject({ attempts: 1, stopped: 'budget_exhausted', budgetBalance: 0 });
  });

  test('has its reserve, too, where it was given as undefined', async () => {
    const budget = { minPerSecond: 100, reserve: undefined } as unknown as RetryBudgetOptions;
    const { client } = setUp([{ status: 503 }], { budget, retry: false });
    const { error } = await settled(client.get('/x'));
    expect(error).toMatchObject({ budgetBalance: 10 });
  });

  test('timeouts draw on it', async () => {
    const { client } = setUp([{ afterMs: Infinity }], {
      attemptTimeoutMs: 10,
      budget: { ratio: 0, minPerSecond: 0.2, windowMs: 10_000 },
    });
    const { error } = await settled(client.get('/x'));
    expect(error).toMatchObject({ attempts: 3, stopped: 'budget_exhausted' });
  });
});

describe('what the server remembers', () => {
  test('no attempt is made when the server may have forgotten the key', async () => {
    const { client, dispatcher } = setUp([{ status: 503, headers: { 'retry-after': '7200' } }], {
      deadlineMs: 86_400_000,
      idempotency: { keyLifetimeMs: 3_600_000 },
    });
    const { error, tookMs } = await settled(client.post('/'));
    expect(error).toMatchObject({ status: 503, stopped: 'deadline' });
    expect([tookMs, dispatcher.requests.length]).toEqual([0, 1]);
    const { tookMs: ofGet } = await settled(client.get('/'));
    expect(ofGet).toBeGreaterThan(7_200_000);
  });

  test.each<[string | string[]]>([[['1', '20', 'x']], ['1, 20, x'], [['20, 1', '2']]])(
    'of several Retry-After the longest counts: %j',
    async (value) => {
      const { client, dispatcher } = setUp([
        { status: 503, headers: { 'retry-after': value as string } },
        {},
      ]);
      await settled(client.get('/'));
      const [first, second] = dispatcher.requests;
      expect((second?.atMs ?? 0) - (first?.atMs ?? 0)).toBeGreaterThanOrEqual(20_000);
    },
  );
});

describe('the message of an error', () => {
  test('has a title of one line, and not a long one', async () => {
    const title = `\u001b[31mevil\r\n${'x'.repeat(5000)}`;
    const { client } = setUp([
      {
        status: 400,
        headers: { 'content-type': 'application/problem+json' },
        body: JSON.stringify({ title }),
      },
    ]);
    const { error } = await settled(client.get('/'));
    expect(error?.message).toMatch(/^the server answered 400: [ -~]{1,201}…?$/);
    expect(error?.problem?.title).toBe(title);
  });
});

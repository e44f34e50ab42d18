import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { Agent, Client, type Dispatcher, fetch, MockAgent } from 'undici';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { apiKey, type ClientError, createClient, idempotencyKey } from '../src/index.ts';
import {
  attemptTimeout,
  breaker,
  concurrency,
  type RetryInterceptorOptions,
  retry,
  totalDeadline,
} from '../src/interceptors.ts';
import { FakeDispatcher, type Reply } from './fake-dispatcher.ts';
import { json, serve } from './server.ts';

const ORIGIN = 'https://api.example.com';

function agentWith(...layers: Dispatcher.DispatcherComposeInterceptor[]) {
  const agent = new Agent();
  onTestFinished(() => agent.destroy());
  return agent.compose(...layers);
}

function fakeWith(replies: readonly Reply[], ...layers: Dispatcher.DispatcherComposeInterceptor[]) {
  vi.useFakeTimers();
  onTestFinished(() => {
    const left = vi.getTimerCount();
    vi.useRealTimers();
    expect(left).toBe(0);
  });
  const fake = new FakeDispatcher((index) => replies[Math.min(index, replies.length - 1)] ?? {});
  return { fake, agent: fake.compose(...layers) };
}

/** Lets a request run to its end on the fake clock. */
async function ended(
  agent: Dispatcher,
  options: Partial<Dispatcher.RequestOptions> = {},
): Promise<{ status?: number; text?: string; error?: unknown }> {
  const request = agent.request({ origin: ORIGIN, path: '/x', method: 'GET', ...options }).then(
    async ({ statusCode, body }) => ({ status: statusCode, text: await body.text() }),
    (error: unknown) => ({ error }),
  );
  await vi.runAllTimersAsync();
  return request;
}

describe('retry', () => {
  test('tries again on any undici agent, with the same key, and passes the last response on', async () => {
    const { origin, seen } = await serve(
      json(503, { busy: true }),
      (request) => request.socket.destroy(),
      json(201, { id: 1 }),
    );
    const agent = agentWith(
      apiKey('sk-live-secret'),
      retry({ baseMs: 1, capMs: 2 }),
      idempotencyKey(),
    );
    const { statusCode, body } = await agent.request({
      origin,
      path: '/payments',
      method: 'POST',
      headers: ['content-type', 'text/plain'],
      body: 'amount=5',
    });
    expect([statusCode, await body.json()]).toEqual([201, { id: 1 }]);
    expect(seen.map((request) => request.body)).toEqual(Array(3).fill('amount=5'));
    expect(new Set(seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
    expect(seen[2]?.headers).toMatchObject({
      authorization: 'ApiKey sk-live-secret',
      'content-type': 'text/plain',
    });
  });

  test('leaves the body of the last error to its caller, through fetch too', async () => {
    const { origin, seen } = await serve(json(503, { why: 'down' }));
    const dispatcher = agentWith(retry({ maxAttempts: 3, baseMs: 1, capMs: 1 }));
    const response = await fetch(origin, { dispatcher });
    expect([response.status, await response.json()]).toEqual([503, { why: 'down' }]);
    expect(seen.length).toBe(3);
  });

  test.each([
    [{ method: 'POST', body: 'x' }, 1],
    [{ method: 'POST', body: 'x', headers: { 'Idempotency-Key': 'a' } }, 4],
    [{ method: 'POST', body: 'x', headers: { 'idempotency-key': undefined } }, 1],
    [{ method: 'POST', body: 'x', headers: {} }, 1],
    [{ method: 'PUT', body: Buffer.from('x') }, 4],
    [{ method: 'PUT', body: (async function* () {})() as never }, 1],
    [{ method: 'DELETE' }, 4],
  ] as const)('what may be repeated is: %o, %i attempts', async (options, attempts) => {
    const { fake, agent } = fakeWith([{ status: 503 }], retry());
    expect(await ended(agent, options)).toMatchObject({ status: 503 });
    expect(fake.requests.length).toBe(attempts);
  });

  test.each([
    { 'X-Request-Id': 'mine', 'Idempotency-Key': 'a' },
    ['X-Request-Id', 'mine', 'Idempotency-Key', 'a'],
    new Map([
      ['x-request-id', 'mine'],
      ['idempotency-key', 'a'],
    ]),
    { 'x-request-id': ['mine'], 'idempotency-key': ['a'] },
  ])(
    'reports attempts, retries and the budget under the identity of the request: %o',
    async (headers) => {
      const seen: unknown[] = [];
      const listener = (event: unknown): void => void seen.push(event);
      for (const name of ['attempt', 'retry']) {
        subscribe(`countersign:client:${name}`, listener);
        onTestFinished(() => void unsubscribe(`countersign:client:${name}`, listener));
      }
      const { agent } = fakeWith([{ status: 503 }, { status: 200 }], retry());
      await ended(agent, { headers, method: 'POST', path: '/x?token=secret' });
      const identity = { requestId: 'mine', idempotencyKey: 'a', origin: ORIGIN, path: '/x' };
      expect(seen).toMatchObject([
        { ...identity, attempt: 1, status: 503 },
        { ...identity, attempt: 1 },
        { ...identity, attempt: 2, status: 200 },
      ]);
    },
  );

  test('waits for Retry-After in full, or not at all', async () => {
    const { fake, agent } = fakeWith(
      [
        { status: 503, headers: { 'retry-after': '7' } },
        { status: 503, headers: { 'retry-after': '60' } },
      ],
      retry({ deadlineMs: 10_000 }),
    );
    expect(await ended(agent)).toMatchObject({ status: 503 });
    expect(fake.requests.length).toBe(2);
    const [first, second] = fake.requests;
    expect((second?.atMs ?? 0) - (first?.atMs ?? 0)).toBeGreaterThanOrEqual(7000);
  });

  test('keeps within the budget', async () => {
    const { fake, agent } = fakeWith([{ errorCode: 'ECONNREFUSED' }], retry());
    for (let call = 0; call < 100; call += 1) {
      const { error } = await ended(agent);
      expect(error).toMatchObject({ code: 'ERR_CLIENT_NETWORK', cause: { code: 'ECONNREFUSED' } });
    }
    expect(fake.requests.length).toBeLessThanOrEqual(130);
    expect(fake.requests.length).toBeGreaterThan(110);
  });

  test('an abort ends the wait at once', async () => {
    const { fake, agent } = fakeWith([{ status: 503, headers: { 'retry-after': '20' } }], retry());
    const controller = new AbortController();
    const startedAt = performance.now();
    setTimeout(() => controller.abort(new Error('enough')), 5);
    const { error } = await ended(agent, { signal: controller.signal });
    expect(error).toMatchObject({ message: 'enough' });
    expect([fake.requests.length, performance.now() - startedAt]).toEqual([1, 5]);
  });

  test('an abort while the response arrives ends it', async () => {
    const { fake, agent } = fakeWith([{ body: 'late', bodyAfterMs: 1000 }], retry());
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('enough')), 5);
    const request = agent.request({
      origin: ORIGIN,
      path: '/',
      method: 'GET',
      signal: controller.signal,
    });
    const { body } = await request;
    const text = body.text().catch((error: unknown) => error);
    await vi.runAllTimersAsync();
    expect(await text).toMatchObject({ message: 'enough' });
    expect(fake.requests[0]?.aborted).toBe(true);
  });

  test('works with MockAgent', async () => {
    const agent = new MockAgent();
    agent.disableNetConnect();
    const mocked = agent.get(ORIGIN);
    mocked.intercept({ path: '/' }).reply(503, 'no');
    mocked.intercept({ path: '/' }).reply(200, 'yes');
    const { body } = await agent
      .compose(retry({ baseMs: 1, capMs: 1 }))
      .request({ origin: ORIGIN, path: '/', method: 'GET' });
    expect(await body.text()).toBe('yes');
    await agent.close();
  });
});

describe('attemptTimeout', () => {
  test('ends an attempt, which retry makes again', async () => {
    const { fake, agent } = fakeWith(
      [{ afterMs: Infinity }, { body: 'yes' }],
      attemptTimeout({ attemptTimeoutMs: 100 }),
      retry(),
    );
    expect(await ended(agent)).toEqual({ status: 200, text: 'yes' });
    expect(fake.requests.map(({ aborted }) => aborted)).toEqual([true, false]);
  });

  test.each([
    ['alone', []],
    ['through retry', [retry({ maxAttempts: 2 })]],
  ])('has its own error, %s', async (_name, layers) => {
    const limited = attemptTimeout({ attemptTimeoutMs: 100 });
    const { agent } = fakeWith([{ afterMs: Infinity }], limited, ...layers);
    expect((await ended(agent)).error).toMatchObject({ code: 'ERR_CLIENT_ATTEMPT_TIMEOUT' });
  });

  test('is for the body, too', async () => {
    const { agent } = fakeWith(
      [{ body: 'late', bodyAfterMs: 200 }],
      attemptTimeout({ attemptTimeoutMs: 100 }),
    );
    const { body } = await agent.request({ origin: ORIGIN, path: '/', method: 'GET' });
    const text = body.text().catch((error: unknown) => error);
    await vi.runAllTimersAsync();
    expect(await text).toMatchObject({ code: 'ERR_CLIENT_ATTEMPT_TIMEOUT' });
  });

  test('ends a wait for a layer that does not even begin', async () => {
    const never: Dispatcher.DispatcherComposeInterceptor = () => (_request, _handler) => true;
    const { agent } = fakeWith([], never, attemptTimeout({ attemptTimeoutMs: 100 }));
    expect((await ended(agent)).error).toMatchObject({ code: 'ERR_CLIENT_ATTEMPT_TIMEOUT' });
  });
});

describe('totalDeadline', () => {
  test('ends everything together, waits included', async () => {
    const { fake, agent } = fakeWith(
      [{ status: 503, headers: { 'retry-after': '2' } }],
      retry(),
      totalDeadline({ deadlineMs: 5000 }),
    );
    const startedAt = performance.now();
    expect((await ended(agent)).error).toMatchObject({ code: 'ERR_CLIENT_DEADLINE_EXCEEDED' });
    expect(performance.now() - startedAt).toBe(5000);
    expect(fake.requests.length).toBe(3);
  });
});

describe('concurrency', () => {
  test('lets so many run at the same time, in order, and refuses when too many wait', async () => {
    let running = 0;
    let most = 0;
    const order: string[] = [];
    const { origin } = await serve((_request, response) => {
      running += 1;
      most = Math.max(most, running);
      setImmediate(() => {
        running -= 1;
        response.end('done');
      });
    });
    const agent = agentWith(
      (dispatch) =>
        function look(request, handler) {
          order.push(request.path);
          return dispatch(request, handler);
        },
      concurrency({ limit: 2, maxQueued: 6 }),
    );
    const calls = Array.from({ length: 9 }, (_, index) =>
      agent
        .request({ origin, path: `/${index}`, method: 'GET' })
        .then(async ({ body }) => body.text()),
    );
    const ends = await Promise.allSettled(calls);
    expect(ends.filter(({ status }) => status === 'fulfilled').length).toBe(8);
    expect(ends[8]).toMatchObject({ reason: { code: 'ERR_CLIENT_QUEUE_FULL' } });
    expect(most).toBeLessThanOrEqual(2);
    expect(order).toEqual(Array.from({ length: 8 }, (_, index) => `/${index}`));
  });

  test('who gives up leaves the queue, and places are given back however a request ends', async () => {
    const { fake, agent } = fakeWith(
      [{ afterMs: 50 }, { errorCode: 'ECONNRESET' }, { status: 500 }, { afterMs: Infinity }, {}],
      concurrency({ limit: 1 }),
    );
    const controller = new AbortController();
    const calls = [0, 1, 2, 3, 4, 5].map((index) =>
      agent
        .request({
          origin: ORIGIN,
          path: `/${index}`,
          method: 'GET',
          ...(index === 1 || index === 4 ? { signal: controller.signal } : {}),
        })
        .then(async ({ statusCode, body }) => {
          await body.dump();
          return statusCode;
        })
        .catch((error: unknown) =>
          (error as Error).name === 'AbortError' ? 'aborted' : (error as { code?: string }).code,
        ),
    );
    setTimeout(() => controller.abort(), 10);
    await vi.runAllTimersAsync();
    expect(await Promise.all([calls[0], calls[1], calls[2], calls[3], calls[4]])).toEqual([
      200,
      'aborted',
      'ECONNRESET',
      500,
      'aborted',
    ]);
    expect(fake.requests.map(({ options }) => options.path)).toEqual(['/0', '/2', '/3', '/5']);
  });
});

test('who gives up in the moment in which it is given a place gives it back', async () => {
  const { fake, agent } = fakeWith([{ afterMs: 10 }], concurrency({ limit: 1 }));
  let second: Dispatcher.DispatchController | undefined;
  const options = { origin: ORIGIN, path: '/', method: 'GET' } as const;
  const ends: string[] = [];
  agent.dispatch(options, {
    onResponseEnd() {
      ends.push('first');
      second?.abort(new Error('enough'));
    },
  });
  agent.dispatch(options, {
    onRequestStart(controller) {
      second = controller;
    },
    onResponseError: (_controller, { message }) => void ends.push(`second: ${message}`),
  });
  await vi.runAllTimersAsync();
  expect(ends).toEqual(['first', 'second: enough']);
  expect(await ended(agent)).toMatchObject({ status: 200 });
  expect(fake.requests.length).toBe(2);
});

test.each([
  ['attemptTimeout', attemptTimeout({ attemptTimeoutMs: 60_000 })],
  ['totalDeadline', totalDeadline({ deadlineMs: 60_000 })],
  ['retry', retry({ deadlineMs: 60_000 })],
])('%s keeps no timer of a request that is over', async (_name, layer) => {
  const { agent } = fakeWith([{ afterMs: 1 }, { afterMs: Infinity }], layer);
  const options = { origin: ORIGIN, path: '/', method: 'GET' } as const;
  let over = 0;
  const count = (): void => {
    over += 1;
  };
  agent.dispatch(options, { onResponseEnd: count });
  await vi.advanceTimersByTimeAsync(1);
  let controller: Dispatcher.DispatchController | undefined;
  agent.dispatch(options, {
    onRequestStart(given) {
      controller = given;
    },
    onResponseError: count,
  });
  controller?.abort(new Error('enough'));
  await vi.advanceTimersByTimeAsync(0);
  expect([over, vi.getTimerCount()]).toEqual([2, 0]);
});

describe('breaker', () => {
  test('opens for an origin that fails, and closes when a probe succeeds', async () => {
    const { fake, agent } = fakeWith(
      [{ status: 503 }, { errorCode: 'ECONNRESET' }, { status: 200 }],
      breaker({ minimumAttempts: 2, openMs: 1000 }),
    );
    await ended(agent);
    await ended(agent);
    expect((await ended(agent)).error).toMatchObject({ code: 'ERR_CLIENT_BREAKER_OPEN' });
    expect(fake.requests.length).toBe(2);
    await vi.advanceTimersByTimeAsync(1000);
    expect((await ended(agent)).status).toBe(200);
    expect((await ended(agent)).status).toBe(200);
    expect((await ended(agent, { origin: 'https://other.example.com' })).status).toBe(200);
  });

  test('an abort says nothing about the origin, an attempt that is too slow does', async () => {
    const { agent } = fakeWith(
      [{ afterMs: Infinity }],
      attemptTimeout({ attemptTimeoutMs: 50 }),
      breaker({ minimumAttempts: 1 }),
    );
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 5);
    await ended(agent, { signal: controller.signal });
    expect((await ended(agent)).error).toMatchObject({ code: 'ERR_CLIENT_ATTEMPT_TIMEOUT' });
    expect((await ended(agent)).error).toMatchObject({ code: 'ERR_CLIENT_BREAKER_OPEN' });
  });

  test('is not tried again by retry while it is open', async () => {
    const { fake, agent } = fakeWith(
      [{ status: 503 }],
      breaker({ minimumAttempts: 1, openMs: 60_000 }),
      retry(),
    );
    const { error } = await ended(agent);
    expect(error).toMatchObject({ code: 'ERR_CLIENT_BREAKER_OPEN', stopped: 'breaker_open' });
    expect((error as ClientError).retryAfterMs).toBeGreaterThan(50_000);
    expect(fake.requests.length).toBe(1);
  });
});

test('an origin is not forgotten while it is in use, however many others there are', async () => {
  const { fake, agent } = fakeWith([{ afterMs: 1000 }, {}], concurrency({ limit: 1 }));
  const send = async (origin: string): Promise<unknown> =>
    (await agent.request({ origin, path: '/', method: 'GET' })).body.text();
  const busy = send(ORIGIN);
  for (let index = 0; index < 300; index += 1) await send(`https://${index}.example.com`);
  const next = send(ORIGIN);
  await vi.advanceTimersByTimeAsync(999);
  expect(fake.requests.length).toBe(301);
  await vi.runAllTimersAsync();
  await Promise.all([busy, next]);
  expect(fake.requests.length).toBe(302);
});

test('what is known of an origin outlives that of others that were not asked for longer', async () => {
  const { agent } = fakeWith([{ status: 503 }], breaker({ minimumAttempts: 2, openMs: 1e9 }));
  for (let round = 0; round < 3; round += 1) {
    await ended(agent);
    for (let index = 0; index < 60; index += 1) {
      await ended(agent, { origin: `https://${round}-${index}.example.com` });
    }
  }
  expect((await ended(agent)).error).toMatchObject({ code: 'ERR_CLIENT_BREAKER_OPEN' });
});

test('whatever happens, every request ends once, and nothing is left of it', async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const reply: fc.Arbitrary<Reply> = fc.record(
    {
      status: fc.constantFrom(200, 404, 429, 500, 503),
      errorCode: fc.constantFrom('ECONNRESET', 'CERT_HAS_EXPIRED'),
      afterMs: fc.oneof(fc.nat({ max: 300 }), fc.constant(Infinity)),
      body: fc.constantFrom('', 'x'),
      bodyAfterMs: fc.nat({ max: 300 }),
    },
    { requiredKeys: [] },
  );
  const call = fc.record({
    method: fc.constantFrom('GET' as const, 'POST' as const),
    abortAfterMs: fc.option(fc.nat({ max: 600 })),
    atMs: fc.nat({ max: 200 }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(reply, { minLength: 1, maxLength: 8 }),
      fc.array(call, { minLength: 1, maxLength: 8 }),
      fc.shuffledSubarray(
        [
          () => attemptTimeout({ attemptTimeoutMs: 100 }),
          () => breaker({ minimumAttempts: 3, openMs: 50 }),
          () => retry({ baseMs: 10, capMs: 50, deadlineMs: 400 }),
          () => concurrency({ limit: 2, maxQueued: 3 }),
          () => totalDeadline({ deadlineMs: 500 }),
        ],
        { minLength: 5 },
      ),
      async (replies, calls, layers) => {
        const fake = new FakeDispatcher(
          (index) => replies[Math.min(index, replies.length - 1)] ?? {},
        );
        const agent = fake.compose(...layers.map((make) => make()));
        const ends = calls.map(() => 0);
        for (const [index, { method, abortAfterMs, atMs }] of calls.entries()) {
          let controller: Dispatcher.DispatchController | undefined;
          const end = (): void => {
            ends[index] = (ends[index] ?? 0) + 1;
          };
          setTimeout(() => {
            if (abortAfterMs !== null) {
              setTimeout(() => controller?.abort(new Error('enough')), abortAfterMs);
            }
            agent.dispatch(
              { origin: ORIGIN, path: '/', method },
              {
                onRequestStart(given) {
                  controller = given;
                },
                onResponseStart(given) {
                  controller = given;
                },
                onResponseData() {},
                onResponseEnd: end,
                onResponseError: end,
              },
            );
          }, atMs);
        }
        await vi.runAllTimersAsync();
        expect(ends).toEqual(calls.map(() => 1));
        expect(vi.getTimerCount()).toBe(0);
        // The places among the concurrent ones have all been given back.
        const sentBefore = fake.requests.length;
        await vi.advanceTimersByTimeAsync(60_000);
        const later = [1, 2].map(() =>
          agent.request({ origin: ORIGIN, path: '/', method: 'POST' }).then(
            ({ body }) => body.dump(),
            () => {},
          ),
        );
        await vi.runAllTimersAsync();
        await Promise.all(later);
        expect(fake.requests.length).toBeGreaterThan(sentBefore);
      },
    ),
    { numRuns: 200 },
  );
});

describe('a body that fails while its request waits is its failure, and not the end of the process', () => {
  const key = 'sk-live-secret';
  /** What others wait for until the body has failed. */
  const failing = () => {
    const body = new Readable({ read() {} });
    const { promise: failed, resolve } = Promise.withResolvers<void>();
    body.once('close', () => resolve());
    return { body, failed };
  };
  test.each<[string, (failed: Promise<void>) => Dispatcher.DispatcherComposeInterceptor]>([
    ['for its turn', () => concurrency({ limit: 1 })],
    ['for the first attempt', () => retry()],
    ['for its key', (failed) => apiKey(async () => await failed.then(() => key))],
  ])('%s', async (_, layer) => {
    const { body, failed } = failing();
    const { origin, seen } = await serve((_request, response) => {
      void failed.then(() => response.end('ok'));
    });
    const agent = agentWith(layer(failed));
    const before = agent.request({ origin, path: '/first', method: 'GET' });
    const call = agent.request({ origin, path: '/second', method: 'POST', body });
    body.destroy(new Error('the disk is gone'));
    await expect(call).rejects.toThrow('the disk is gone');
    await (await before).body.dump();
    expect(seen.map(({ url }) => url)).not.toContain('/second');
  });

  test('in the client', async () => {
    const { body, failed } = failing();
    const { origin, seen } = await serve((_request, response) => {
      void failed.then(() => response.end('{}'));
    });
    const client = createClient({
      origin,
      egress: { allow: [origin] },
      concurrency: { limit: 1 },
    });
    onTestFinished(() => client.close());
    const before = client.get('/first');
    const call = client.post('/second', { body });
    body.destroy(new Error('the disk is gone'));
    await expect(call).rejects.toMatchObject({ cause: new Error('the disk is gone') });
    await before;
    expect(seen.map(({ url }) => url)).not.toContain('/second');
  });
});

test('all together, on one connection', async () => {
  const { origin, seen } = await serve(json(503, {}), json(200, { ok: true }));
  const client = new Client(origin);
  onTestFinished(() => client.destroy());
  const layered = client.compose(
    apiKey('sk-live-secret'),
    attemptTimeout({ attemptTimeoutMs: 5000 }),
    breaker(),
    retry({ baseMs: 1, capMs: 1 }),
    concurrency(),
    totalDeadline({ deadlineMs: 10_000 }),
    idempotencyKey(),
  );
  const { body } = await layered.request({ origin, path: '/', method: 'POST', body: '{}' });
  expect(await body.json()).toEqual({ ok: true });
  expect(seen.length).toBe(2);
});

test.each([
  [() => totalDeadline({ deadlineMs: 0 }), /deadlineMs/],
  [() => totalDeadline({} as { deadlineMs: number }), /deadlineMs/],
  [() => attemptTimeout({ attemptTimeoutMs: 2 ** 31 }), /attemptTimeoutMs/],
  [() => concurrency({ limit: 0 }), /concurrency.limit/],
  [() => breaker({ failureRatio: 2 }), /breaker.failureRatio/],
  [() => retry({ maxAttempts: 0 }), /maxAttempts/],
  [() => retry({ deadlineMs: -1 }), /deadlineMs/],
  [() => retry({ budget: { ratio: 7 } }), /ratio/],
  [
    () => retry({ attemptTimeoutMs: 5 } as RetryInterceptorOptions),
    /^attemptTimeoutMs: there is no/,
  ],
  [() => retry({ now: 7 as unknown as () => number }), /now/],
])('a wrong option is refused at construction: %s', (make, message) => {
  expect(make).toThrow(TypeError);
  expect(make).toThrow(message);
});

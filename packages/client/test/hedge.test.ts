import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { type ClientOptions, createClient } from '../src/index.ts';
import { FakeDispatcher, type Reply } from './fake-dispatcher.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

function setUp(replies: readonly Reply[], options: Partial<ClientOptions> = {}) {
  const dispatcher = new FakeDispatcher((index) => replies[index] ?? {});
  const client = createClient({
    origin: 'https://api.example.com',
    egress: dispatcher,
    hedge: { afterMs: 100 },
    ...options,
  });
  const startedAt = performance.now();
  const took = (): number => performance.now() - startedAt;
  return { client, dispatcher, took };
}

const json = (body: string): Reply => ({
  body,
  headers: { 'content-type': 'application/json' },
});

const busy = (seconds: string) => ({ status: 503, headers: { 'retry-after': seconds } });

describe('hedging', () => {
  test('a slow first answer is overtaken by the second, and given up', async () => {
    const { client, dispatcher, took } = setUp([
      { ...json('1'), afterMs: 5000 },
      { ...json('2'), afterMs: 50 },
    ]);
    const call = client.get('/x').then((response) => ({ ...response, took: took() }));
    await vi.runAllTimersAsync();
    expect(await call).toMatchObject({ body: 2, attempts: 2, took: 150 });
    expect(dispatcher.requests.map(({ aborted }) => aborted)).toEqual([true, false]);
  });

  test('the first may still win', async () => {
    const { client, dispatcher } = setUp([
      { ...json('1'), afterMs: 120 },
      { ...json('2'), afterMs: 500 },
    ]);
    const call = client.get('/x');
    await vi.runAllTimersAsync();
    expect(await call).toMatchObject({ body: 1, attempts: 2 });
    expect(dispatcher.requests[1]?.aborted).toBe(true);
  });

  test('a fast answer needs no second', async () => {
    const { client, dispatcher } = setUp([{ ...json('1'), afterMs: 99 }]);
    const call = client.get('/x');
    await vi.runAllTimersAsync();
    expect(await call).toMatchObject({ body: 1, attempts: 1 });
    expect(dispatcher.requests.length).toBe(1);
  });

  test('a failure of one waits for the other', async () => {
    const { client } = setUp([{ ...json('1'), afterMs: 300 }, { errorCode: 'ECONNRESET' }]);
    const call = client.get('/x');
    await vi.runAllTimersAsync();
    expect(await call).toMatchObject({ body: 1, attempts: 2 });
  });

  test.each([
    [
      { ...busy('2'), afterMs: 50 },
      { errorCode: 'ECONNRESET', afterMs: 300 },
    ],
    [
      { ...busy('1'), afterMs: 300 },
      { ...busy('2'), afterMs: 50 },
    ],
    [
      { errorCode: 'ECONNRESET', afterMs: 120 },
      { ...busy('2'), afterMs: 50 },
    ],
  ])('of two bad answers the longer Retry-After counts: %o', async (first, second) => {
    const { client, dispatcher } = setUp([first, second, json('3')]);
    const call = client.get('/x');
    await vi.runAllTimersAsync();
    expect(await call).toMatchObject({ body: 3, attempts: 3 });
    const [, , third] = dispatcher.requests;
    const toldAtMs = Math.min(first.afterMs, 150);
    expect((third?.atMs ?? 0) - (dispatcher.requests[0]?.atMs ?? 0)).toBeGreaterThanOrEqual(
      toldAtMs + 2000,
    );
  });

  test('a write is never hedged', async () => {
    const { client, dispatcher } = setUp([{ afterMs: 5000 }]);
    const call = client.put('/x', { json: {} });
    await vi.runAllTimersAsync();
    await call;
    expect(dispatcher.requests.length).toBe(1);
  });

  test('is not sent where the circuit is only being probed', async () => {
    const { client, dispatcher } = setUp([{ status: 500 }, { afterMs: 5000 }], {
      breaker: { minimumAttempts: 1, openMs: 1000 },
      retry: false,
    });
    await client.get('/x').catch(() => {});
    await vi.advanceTimersByTimeAsync(1000);
    const call = client.get('/x');
    await vi.runAllTimersAsync();
    await call;
    expect(dispatcher.requests.length).toBe(2);
  });

  test('is paid for from the budget', async () => {
    const { client, dispatcher } = setUp([{ afterMs: 5000 }], {
      budget: { ratio: 0, minPerSecond: 0 },
    });
    const refused: unknown[] = [];
    const listener = (event: unknown): void => void refused.push(event);
    subscribe('countersign:client:budget', listener);
    onTestFinished(() => void unsubscribe('countersign:client:budget', listener));
    const call = client.get('/x');
    await vi.runAllTimersAsync();
    const { requestId } = await call;
    expect(dispatcher.requests.length).toBe(1);
    expect(refused).toEqual([{ origin: 'https://api.example.com', requestId }]);
  });

  test("the caller's abort ends both", async () => {
    const { client, dispatcher } = setUp([{ afterMs: Infinity }, { afterMs: Infinity }]);
    const controller = new AbortController();
    const call = client.get('/x', { signal: controller.signal }).catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(200);
    controller.abort();
    expect(await call).toMatchObject({ code: 'ERR_CLIENT_ABORTED' });
    expect(dispatcher.requests.map(({ aborted }) => aborted)).toEqual([true, true]);
  });
});

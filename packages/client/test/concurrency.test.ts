import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { concurrencyBound, createClient } from '../src/index.ts';
import { FakeDispatcher } from './fake-dispatcher.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe('the concurrency bound', () => {
  test('runs no more at a time than the limit, first come, first served', async () => {
    let running = 0;
    let most = 0;
    const order: string[] = [];
    const dispatcher = new FakeDispatcher((_index, { path }) => {
      running += 1;
      most = Math.max(most, running);
      order.push(path);
      setTimeout(() => {
        running -= 1;
      }, 10);
      return { afterMs: 10 };
    });
    const client = createClient({
      origin: 'https://api.example.com',
      egress: dispatcher,
      concurrency: { limit: 3 },
    });
    const paths = Array.from({ length: 20 }, (_, index) => `/${index}`);
    const calls = paths.map((path) => client.get(path));
    await vi.runAllTimersAsync();
    await Promise.all(calls);
    expect(most).toBe(3);
    expect(order).toEqual(paths);
  });

  test('refuses at once when too many are waiting', async () => {
    const client = createClient({
      origin: 'https://api.example.com',
      egress: new FakeDispatcher(() => ({ afterMs: 10 })),
      concurrency: { limit: 1, maxQueued: 1 },
    });
    const calls = [client.get('/1'), client.get('/2')];
    await expect(client.get('/3')).rejects.toMatchObject({
      code: 'ERR_CLIENT_QUEUE_FULL',
      attempts: 0,
    });
    await vi.runAllTimersAsync();
    await Promise.all(calls);
  });

  test('who waits can give up, and is bound by the deadline', async () => {
    const dispatcher = new FakeDispatcher(() => ({ afterMs: 1000 }));
    const client = createClient({
      origin: 'https://api.example.com',
      egress: dispatcher,
      concurrency: { limit: 1 },
    });
    const first = client.get('/first');
    const controller = new AbortController();
    const gone = client.get('/gone', { signal: controller.signal }).catch((e: unknown) => e);
    const late = client.get('/late', { deadlineMs: 500 }).catch((e: unknown) => e);
    const patient = client.get('/patient');
    controller.abort(new Error('enough'));
    expect(await gone).toMatchObject({ code: 'ERR_CLIENT_ABORTED', attempts: 0 });
    await vi.advanceTimersByTimeAsync(500);
    expect(await late).toMatchObject({ code: 'ERR_CLIENT_DEADLINE_EXCEEDED', attempts: 0 });
    await vi.runAllTimersAsync();
    await Promise.all([first, patient]);
    expect(dispatcher.requests.map(({ options }) => options.path)).toEqual(['/first', '/patient']);
  });

  test('gives every place back, whatever becomes of the call', async () => {
    const dispatcher = new FakeDispatcher((index) =>
      index % 2 ? { status: 400 } : { errorCode: 'ERR_X' },
    );
    const client = createClient({
      origin: 'https://api.example.com',
      egress: dispatcher,
      concurrency: { limit: 2, maxQueued: 0 },
    });
    for (let i = 0; i < 20; i += 1) await client.get('/').catch(() => {});
    expect(dispatcher.requests.length).toBe(20);
  });

  test('counts what runs and what waits', async () => {
    const bound = concurrencyBound({ limit: 1, maxQueued: 2 });
    const { signal } = new AbortController();
    expect(bound.tryEnter()).toBe(true);
    const turn = bound.enter(signal);
    expect([bound.running, bound.queued]).toEqual([1, 1]);
    bound.leave();
    await turn;
    expect([bound.running, bound.queued]).toEqual([1, 0]);
    bound.leave();
    expect(bound.running).toBe(0);
    await expect(bound.enter(AbortSignal.abort(new Error('no')))).rejects.toThrow('no');
  });

  test.each([
    [{ limit: 0 }, /limit/],
    [{ limit: 1.5 }, /limit/],
    [{ maxQueued: -1 }, /maxQueued/],
  ])('refuses %o at construction', (concurrency, message) => {
    expect(() => createClient({ origin: 'https://a.example', concurrency })).toThrow(message);
  });
});

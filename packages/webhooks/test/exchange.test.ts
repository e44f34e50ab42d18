import { getEventListeners } from 'node:events';
import { afterEach, expect, it, vi } from 'vitest';
import type { WebhookDispatcher } from '../src/endpoint.ts';
import { exchange } from '../src/exchange.ts';

afterEach(() => {
  vi.useRealTimers();
});

it('leaves neither a timer nor a listener behind when the dispatcher throws', async () => {
  vi.useFakeTimers();
  const { signal } = new AbortController();
  const failure = new Error('destroyed');
  const dispatcher: WebhookDispatcher = {
    dispatch() {
      throw failure;
    },
  };
  const request = {
    origin: 'https://example.com',
    path: '/',
    method: 'POST',
    headers: {},
    body: Buffer.alloc(0),
  } as const;
  const limits = {
    timeLimitMs: 1000,
    attemptTimeoutMs: 1000,
    maxResponseBytes: 10,
    excerptBytes: 10,
    signal,
  };
  await expect(exchange(dispatcher, request, limits)).rejects.toBe(failure);
  expect(vi.getTimerCount()).toBe(0);
  expect(getEventListeners(signal, 'abort')).toEqual([]);
});

import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { StoreUnavailableError, withDeadline } from '../src/index.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test('passes on what settles in time, and leaves no timer', async () => {
  await expect(withDeadline(Promise.resolve(7), 100)).resolves.toBe(7);
  await expect(withDeadline(Promise.reject(new Error('own')), 100)).rejects.toThrow('own');
  expect(vi.getTimerCount()).toBe(0);
});

test('rejects at the deadline with an unknown outcome', async () => {
  const outcome = withDeadline(new Promise(() => {}), 100).catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(99);
  expect(vi.getTimerCount()).toBe(1);
  await vi.advanceTimersByTimeAsync(1);
  const error = await outcome;
  expect(error).toBeInstanceOf(StoreUnavailableError);
  expect(error).toMatchObject({ code: 'ERR_STORE_TIMEOUT', outcome: 'unknown' });
});

test('ignores a rejection that comes after the deadline', async () => {
  let fail: (error: Error) => void = () => {};
  const late = new Promise((_, reject) => {
    fail = reject;
  });
  const outcome = withDeadline(late, 10).catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(10);
  fail(new Error('late'));
  await expect(outcome).resolves.toMatchObject({ code: 'ERR_STORE_TIMEOUT' });
});

test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31])('refuses %d ms', async (ms) => {
  await expect(withDeadline(Promise.resolve(), ms)).rejects.toThrow(/^timeoutMs: /);
});

import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { deadline, RetryError, sleep } from '../src/index.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

const passed = expect.objectContaining({
  name: 'RetryError',
  code: 'ERR_RETRY_DEADLINE_EXCEEDED',
}) as RetryError;

describe('deadline', () => {
  test('counts down to zero and no further', () => {
    const whole = deadline(1000);
    expect(whole.remaining()).toBe(1000);
    vi.advanceTimersByTime(400);
    expect(whole.remaining()).toBe(600);
    vi.advanceTimersByTime(10_000);
    expect(whole.remaining()).toBe(0);
  });

  test('aborts its signal with a coded reason when the time is up, not before', () => {
    const { signal } = deadline(1000);
    vi.advanceTimersByTime(999);
    expect(signal.aborted).toBe(false);
    vi.advanceTimersByTime(1);
    expect(signal.aborted).toBe(true);
    expect(signal.reason).toEqual(passed);
    expect(signal.reason).toBeInstanceOf(RetryError);
  });

  test('a signal that is read late still ends on time', () => {
    const whole = deadline(1000);
    vi.advanceTimersByTime(700);
    const { signal } = whole;
    vi.advanceTimersByTime(300);
    expect(signal.aborted).toBe(true);
  });

  test('a signal that is read after the end is aborted', () => {
    const whole = deadline(1000);
    vi.advanceTimersByTime(1000);
    expect(whole.signal.reason).toEqual(passed);
    expect(deadline(0).signal.aborted).toBe(true);
  });

  test('passes an outer abort on at once, with its reason', () => {
    const outer = new AbortController();
    const { signal } = deadline(1000, outer.signal);
    outer.abort('enough');
    expect(signal.reason).toBe('enough');
  });

  test('is aborted from the start when the outer signal is', () => {
    expect(deadline(1000, AbortSignal.abort('before')).signal.reason).toBe('before');
  });

  test('lets go of the timer and of the outer signal when disposed', () => {
    const outer = new AbortController();
    let signal: AbortSignal;
    {
      using whole = deadline(1000, outer.signal);
      signal = whole.signal;
      expect(vi.getTimerCount()).toBe(1);
    }
    expect(vi.getTimerCount()).toBe(0);
    outer.abort();
    vi.advanceTimersByTime(5000);
    expect(signal.aborted).toBe(false);
  });

  test('its timer does not keep the process alive, and none is started before the signal is read', () => {
    const started = vi.spyOn(globalThis, 'setTimeout');
    const whole = deadline(1000);
    expect(started).not.toHaveBeenCalled();
    void whole.signal;
    expect(started.mock.results.map(({ value }) => (value as NodeJS.Timeout).hasRef())).toEqual([
      false,
    ]);
    whole.dispose();
    started.mockRestore();
  });

  test('without an end it starts no timer and still passes an abort on', () => {
    const outer = new AbortController();
    const whole = deadline(Infinity, outer.signal);
    const { signal } = whole;
    expect(vi.getTimerCount()).toBe(0);
    expect(whole.remaining()).toBe(Infinity);
    outer.abort('stop');
    expect(signal.reason).toBe('stop');
  });

  test('a part that is shorter ends by itself and leaves the whole running', () => {
    using whole = deadline(1000);
    const part = whole.within(300);
    const { signal } = part;
    vi.advanceTimersByTime(300);
    expect(signal.reason).toEqual(passed);
    expect(whole.signal.aborted).toBe(false);
  });

  test('a part that would be longer ends with the whole, for the same reason', () => {
    const whole = deadline(1000);
    vi.advanceTimersByTime(900);
    const part = whole.within(300);
    expect(part.remaining()).toBe(100);
    const { signal } = part;
    vi.advanceTimersByTime(100);
    expect(signal.aborted).toBe(true);
    expect(signal.reason).toBe(whole.signal.reason);
  });

  test('parts never outlive the whole and shrink as it goes by', () => {
    const ms = fc.integer({ min: 0, max: 10_000 });
    fc.assert(
      fc.property(ms, fc.array(fc.tuple(ms, ms)), (wholeMs, steps) => {
        const clock = { ms: 77 };
        using whole = deadline(wholeMs, undefined, { now: () => clock.ms });
        let elapsed = 0;
        for (const [partMs, passes] of steps) {
          using part = whole.within(partMs);
          expect(part.remaining()).toBe(Math.max(0, Math.min(partMs, wholeMs - elapsed)));
          clock.ms += passes;
          elapsed += passes;
          expect(part.remaining()).toBeLessThanOrEqual(whole.remaining());
        }
      }),
    );
  });

  test.each([
    -1,
    Number.NaN,
    2 ** 31,
    -Infinity,
    null as unknown as number,
    '100' as unknown as number,
  ])('refuses %j ms', (ms) => {
    expect(() => deadline(ms)).toThrow(TypeError);
    expect(() => deadline(1).within(ms)).toThrow(TypeError);
  });
});

describe('sleep', () => {
  test('ends when the time has passed, not before', async () => {
    let over = false;
    const sleeping = sleep(1000).then(() => {
      over = true;
    });
    await vi.advanceTimersByTimeAsync(999);
    expect(over).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    await sleeping;
    expect(over).toBe(true);
  });

  test('a timer that fires before its time is set again', async () => {
    vi.useRealTimers();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const controller = new AbortController();
    const sleeping = sleep(60_000, controller.signal);
    // The timer has fired, the clock says that hardly any time has passed.
    await vi.advanceTimersByTimeAsync(60_000);
    expect(vi.getTimerCount()).toBe(1);
    controller.abort(new Error('enough'));
    await expect(sleeping).rejects.toThrow('enough');
  });

  test('an abort ends it at once, with its reason and without a timer left', async () => {
    const controller = new AbortController();
    const sleeping = sleep(1000, controller.signal);
    controller.abort(new Error('enough'));
    expect(vi.getTimerCount()).toBe(0);
    await expect(sleeping).rejects.toThrow('enough');
  });

  test('does not start when the signal has aborted before', async () => {
    await expect(sleep(1000, AbortSignal.abort(new Error('before')))).rejects.toThrow('before');
  });

  test('leaves no listener on a long-lived signal', async () => {
    const { signal } = new AbortController();
    const removed = vi.spyOn(signal, 'removeEventListener');
    const sleeping = sleep(5, signal);
    await vi.advanceTimersByTimeAsync(5);
    await sleeping;
    expect(removed).toHaveBeenCalledOnce();
  });

  test('refuses what no timer can wait', () => {
    expect(() => sleep(2 ** 31)).toThrow(TypeError);
    expect(() => sleep(-1)).toThrow(TypeError);
    expect(() => sleep(null as unknown as number)).toThrow(TypeError);
    expect(() => sleep('100' as unknown as number)).toThrow(TypeError);
  });
});

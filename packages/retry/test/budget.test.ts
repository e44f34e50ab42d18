import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type RetryBudgetOptions, retryBudget } from '../src/index.ts';

function clocked(options: Omit<RetryBudgetOptions, 'now'> = {}) {
  const clock = { ms: 5_000_000 };
  return { clock, budget: retryBudget({ ...options, now: () => clock.ms }) };
}

function drain(budget: { tryWithdraw(): boolean }, limit = 10_000): number {
  let count = 0;
  while (count < limit && budget.tryWithdraw()) count += 1;
  return count;
}

describe('retryBudget', () => {
  test('grants the ratio of the calls on top of the reserve', () => {
    const { budget } = clocked({ ratio: 0.2, minPerSecond: 1, windowMs: 10_000 });
    for (let call = 0; call < 1000; call += 1) budget.deposit();
    expect(budget.balance).toBe(210);
    expect(drain(budget)).toBe(210);
    expect(budget.balance).toBe(0);
    expect(budget.tryWithdraw()).toBe(false);
  });

  test('grants the reserve without any call', () => {
    expect(drain(clocked({ ratio: 0, minPerSecond: 3, windowMs: 2000 }).budget)).toBe(6);
  });

  test('grants nothing when told so', () => {
    const { budget } = clocked({ ratio: 0, minPerSecond: 0 });
    budget.deposit();
    expect(budget.tryWithdraw()).toBe(false);
  });

  test('ten calls at a tenth are one retry, exactly', () => {
    const { budget } = clocked({ ratio: 0.1, minPerSecond: 0 });
    for (let call = 0; call < 9; call += 1) budget.deposit();
    expect(budget.balance).toBe(0);
    budget.deposit();
    expect(budget.balance).toBe(1);
  });

  test('calls and retries are forgotten after the window', () => {
    const { clock, budget } = clocked({ ratio: 1, minPerSecond: 0, windowMs: 10_000 });
    for (let call = 0; call < 5; call += 1) budget.deposit();
    clock.ms += 8999;
    expect(budget.balance).toBe(5);
    clock.ms += 1001;
    expect(budget.balance).toBe(0);
  });

  test('retries that were taken come back after the window, up to the reserve', () => {
    const { clock, budget } = clocked({ minPerSecond: 1, windowMs: 10_000 });
    expect(drain(budget)).toBe(10);
    clock.ms += 1_000_000;
    expect(drain(budget)).toBe(10);
  });

  test('the reserve is used once, until a call succeeds', () => {
    const { clock, budget } = clocked({ ratio: 0.2, minPerSecond: 1, reserve: 3 });
    expect(budget.balance).toBe(3);
    expect(drain(budget)).toBe(3);
    clock.ms += 1_000_000;
    expect(drain(budget)).toBe(0);
    for (let call = 0; call < 10; call += 1) budget.deposit();
    expect(drain(budget)).toBe(2);
    clock.ms += 1_000_000;
    budget.succeeded();
    expect(drain(budget)).toBe(3);
  });

  test('a success grants nothing beyond the window', () => {
    const { clock, budget } = clocked({ ratio: 0, minPerSecond: 1, reserve: 10 });
    let granted = 0;
    for (let second = 0; second < 100; second += 1) {
      granted += drain(budget);
      budget.succeeded();
      clock.ms += 1000;
    }
    expect(granted).toBeLessThanOrEqual(110);
    expect(granted).toBeGreaterThan(90);
  });

  test('without a success, retries stay within ratio × calls + reserve for ever', () => {
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.constant('call' as const) },
      { weight: 5, arbitrary: fc.constant('retry' as const) },
      { weight: 2, arbitrary: fc.integer({ min: 1, max: 20_000 }) },
    );
    const options = fc.record({
      ratio: fc.integer({ min: 0, max: 10 }).map((tenths) => tenths / 10),
      minPerSecond: fc.integer({ min: 0, max: 3 }),
      reserve: fc.integer({ min: 0, max: 5 }),
    });
    fc.assert(
      fc.property(options, fc.array(step, { maxLength: 300 }), (limits, steps) => {
        const { clock, budget } = clocked(limits);
        let calls = 0;
        let retries = 0;
        for (const what of steps) {
          if (typeof what === 'number') clock.ms += what;
          else if (what === 'call') {
            budget.deposit();
            calls += 1;
          } else {
            const balance = budget.balance;
            const granted = budget.tryWithdraw();
            expect(granted).toBe(balance > 0);
            expect(budget.balance).toBe(granted ? balance - 1 : balance);
            if (granted) retries += 1;
          }
          expect(retries).toBeLessThanOrEqual(limits.ratio * calls + limits.reserve + 1e-9);
        }
      }),
    );
  });

  test('a clock that steps back grants nothing more', () => {
    const { clock, budget } = clocked({ minPerSecond: 1 });
    drain(budget);
    clock.ms -= 60_000;
    expect(budget.tryWithdraw()).toBe(false);
  });

  test('in every window, retries stay within ratio × calls + reserve', () => {
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.constant('call' as const) },
      { weight: 5, arbitrary: fc.constant('retry' as const) },
      { weight: 2, arbitrary: fc.integer({ min: 1, max: 4000 }) },
    );
    const options = fc.record({
      ratio: fc.integer({ min: 0, max: 10 }).map((tenths) => tenths / 10),
      minPerSecond: fc.integer({ min: 0, max: 3 }),
    });
    fc.assert(
      fc.property(options, fc.array(step, { maxLength: 300 }), (limits, steps) => {
        const windowMs = 10_000;
        const { clock, budget } = clocked({ ...limits, windowMs });
        const calls: number[] = [];
        const retries: number[] = [];
        for (const what of steps) {
          if (typeof what === 'number') clock.ms += what;
          else if (what === 'call') {
            budget.deposit();
            calls.push(clock.ms);
          } else {
            const balance = budget.balance;
            const granted = budget.tryWithdraw();
            expect(granted).toBe(balance > 0);
            expect(budget.balance).toBe(granted ? balance - 1 : balance);
            if (!granted) continue;
            retries.push(clock.ms);
            // What counts is at most one window and at least nine tenths of one.
            const within = (times: number[], spanMs: number) =>
              times.filter((time) => time > clock.ms - spanMs).length;
            expect(within(retries, windowMs * 0.9)).toBeLessThanOrEqual(
              limits.ratio * within(calls, windowMs) +
                limits.minPerSecond * (windowMs / 1000) +
                1e-9,
            );
          }
        }
      }),
    );
  });

  test.each([
    [{ ratio: -0.1 }, /ratio/],
    [{ ratio: 1.1 }, /ratio/],
    [{ ratio: Number.NaN }, /ratio/],
    [{ ratio: null as unknown as number }, /ratio/],
    [{ minPerSecond: -1 }, /minPerSecond/],
    [{ minPerSecond: Infinity }, /minPerSecond/],
    [{ reserve: -1 }, /reserve/],
    [{ reserve: 0.5 }, /reserve/],
    [{ reserve: Number.NaN }, /reserve/],
    [{ windowMs: 999 }, /windowMs/],
    [{ windowMs: Number.NaN }, /windowMs/],
    [{ window: 5 } as RetryBudgetOptions, /^window: there is no such option$/],
  ])('refuses %o at construction', (options, message) => {
    expect(() => retryBudget(options)).toThrow(message);
  });
});

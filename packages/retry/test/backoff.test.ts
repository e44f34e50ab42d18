import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type BackoffOptions, exponentialBackoff } from '../src/index.ts';

const range = fc
  .record({ baseMs: fc.integer({ min: 1, max: 10_000 }), factor: fc.integer({ min: 1, max: 500 }) })
  .map(({ baseMs, factor }) => ({ baseMs, capMs: baseMs * factor }));
const retryNumber = fc.integer({ min: 1, max: 5000 });
const unit = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

describe('exponentialBackoff', () => {
  test('without jitter doubles from the base to the cap', () => {
    const backoff = exponentialBackoff({ baseMs: 100, capMs: 1000, jitter: 'none' });
    expect([1, 2, 3, 4, 5, 5000].map((retry) => backoff(retry))).toEqual([
      100, 200, 400, 800, 1000, 1000,
    ]);
  });

  test('full jitter stays within the ceiling that no jitter would wait', () => {
    fc.assert(
      fc.property(range, retryNumber, unit, ({ baseMs, capMs }, retry, value) => {
        const ceiling = exponentialBackoff({ baseMs, capMs, jitter: 'none' })(retry);
        const delay = exponentialBackoff({ baseMs, capMs, random: () => value })(retry);
        expect(Number.isInteger(delay)).toBe(true);
        expect(delay).toBeGreaterThanOrEqual(0);
        expect(delay).toBeLessThanOrEqual(ceiling);
      }),
    );
  });

  test('full jitter reaches both ends', () => {
    const at = (value: number) =>
      exponentialBackoff({ baseMs: 100, capMs: 1000, random: () => value })(3);
    expect([at(0), at(0.5), at(0.9999)]).toEqual([0, 200, 400]);
  });

  test('decorrelated jitter stays between the base and three times the previous wait, under the cap', () => {
    fc.assert(
      fc.property(range, fc.array(unit, { minLength: 1 }), ({ baseMs, capMs }, values) => {
        let index = 0;
        const backoff = exponentialBackoff({
          baseMs,
          capMs,
          jitter: 'decorrelated',
          random: () => values[index] ?? 0,
        });
        let previousMs = baseMs;
        for (; index < values.length; index += 1) {
          const delay = backoff(index + 1, index === 0 ? undefined : previousMs);
          expect(Number.isInteger(delay)).toBe(true);
          expect(delay).toBeGreaterThanOrEqual(baseMs);
          expect(delay).toBeLessThanOrEqual(Math.min(capMs, previousMs * 3));
          previousMs = delay;
        }
      }),
    );
  });

  test('the same random numbers give the same waits', () => {
    const waits = () => {
      const values = [0.1, 0.7, 0.3];
      const backoff = exponentialBackoff({
        baseMs: 50,
        capMs: 5000,
        random: () => values.shift() ?? 0,
      });
      return [1, 2, 3].map((retry) => backoff(retry));
    };
    expect(waits()).toEqual(waits());
  });

  test.each([
    [{ baseMs: 0, capMs: 10 }, /baseMs/],
    [{ baseMs: Number.NaN, capMs: 10 }, /baseMs/],
    [{ baseMs: 10, capMs: 9 }, /capMs/],
    [{ baseMs: 10, capMs: Infinity }, /capMs/],
    [{ baseMs: 10, capMs: 10, jitter: 'some' as 'full' }, /jitter/],
    [
      { baseMs: 10, capMs: 10, jiter: 'none' } as BackoffOptions,
      /^jiter: there is no such option$/,
    ],
    [{ baseMs: 10, capMs: 10, random: 0.5 as unknown as () => number }, /random/],
  ])('refuses %o at construction', (options, message) => {
    expect(() => exponentialBackoff(options)).toThrow(message);
  });

  test.each([-1, Number.NaN, '100' as unknown as number])(
    'refuses %s as the wait before',
    (previousMs) => {
      const backoff = exponentialBackoff({ baseMs: 1, capMs: 9, jitter: 'decorrelated' });
      expect(() => backoff(2, previousMs)).toThrow(/previousMs/);
    },
  );

  test.each([0, -1, 1.5, Number.NaN])('refuses %s as the number of a retry', (retry) => {
    for (const jitter of ['full', 'decorrelated', 'none'] as const) {
      expect(() => exponentialBackoff({ baseMs: 1, capMs: 2, jitter })(retry)).toThrow(TypeError);
    }
  });
});

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { breakerOf, createBreaker } from '../src/breaker.ts';

it('opens after five failures in a row, and lets one through when its time is up', () => {
  const breaker = createBreaker();
  for (let failure = 0; failure < 4; failure += 1) breaker.failed(0);
  breaker.succeeded();
  for (let failure = 0; failure < 4; failure += 1) breaker.failed(0);
  expect(breaker.waitMs(0)).toBe(0);
  breaker.failed(0);
  const waitMs = breaker.waitMs(0);
  expect(waitMs).toBeGreaterThanOrEqual(1000);
  expect(breaker.waitMs(waitMs - 1)).toBe(1);
  expect(breaker.waitMs(waitMs)).toBe(0);
  expect(breaker.waitMs(waitMs)).toBeGreaterThan(0);
  breaker.succeeded();
  expect(breaker.waitMs(waitMs)).toBe(0);
});

it('never waits longer than half a minute', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 100 }), (outcomes) => {
      const breaker = createBreaker();
      let nowMs = 0;
      for (const good of outcomes) {
        nowMs += breaker.waitMs(nowMs);
        if (good) breaker.succeeded();
        else breaker.failed(nowMs);
        expect(breaker.waitMs(nowMs)).toBeLessThanOrEqual(30_000);
      }
    }),
  );
});

it('does not stay open for longer when the clock is set back', () => {
  const breaker = createBreaker();
  for (let failure = 0; failure < 5; failure += 1) breaker.failed(3_600_000);
  expect(breaker.waitMs(3_600_000)).toBeGreaterThan(0);
  expect(breaker.waitMs(0)).toBe(0);
});

it('is shared by endpoint', () => {
  expect(breakerOf('https://a/token')).toBe(breakerOf('https://a/token'));
  expect(breakerOf('https://a/token')).not.toBe(breakerOf('https://b/token'));
});

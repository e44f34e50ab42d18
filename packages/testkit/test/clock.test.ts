import { expect, it } from 'vitest';
import { fakeClock } from '../src/clock.ts';

it('moves only when told to', () => {
  const { now, advance, set } = fakeClock(1000);
  expect(now()).toBe(1000);
  advance(500);
  expect(now()).toBe(1500);
  set(42);
  expect(now()).toBe(42);
  expect(fakeClock().now()).toBe(Date.UTC(2026, 0, 1));
});

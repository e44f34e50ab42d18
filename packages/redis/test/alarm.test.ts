import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Alarm } from '../src/alarm.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** What comes after a turn of the loop comes a millisecond later on the fake clock. */
const turnMs = 1;
let start = 0;
beforeEach(() => {
  start = performance.now();
});

function alarm(): { alarm: Alarm; rings: number[] } {
  const rings: number[] = [];
  return { alarm: new Alarm(() => rings.push(performance.now() - start), true), rings };
}

test('rings once, at the earliest of the times asked for', () => {
  const { alarm: it, rings } = alarm();
  for (const afterMs of [300, 100, 200]) it.by(start + afterMs);
  expect(vi.getTimerCount()).toBe(1);
  vi.advanceTimersByTime(1000);
  expect(rings).toEqual([100 + turnMs]);
});

test('rings again for who asks again', () => {
  const rings: number[] = [];
  const it: Alarm = new Alarm(() => {
    rings.push(performance.now() - start);
    if (rings.length < 3) it.by(start + 10 * (rings.length + 1));
  }, true);
  it.by(start + 10);
  vi.advanceTimersByTime(1000);
  expect(rings).toEqual([10, 20, 30].map((ms) => ms + turnMs));
});

test('never rings before its time, and soon for a time that is over', () => {
  const { alarm: it, rings } = alarm();
  it.by(start + 10.4);
  vi.advanceTimersByTime(10 + turnMs);
  expect(rings).toEqual([]);
  vi.advanceTimersByTime(1);
  it.by(start - 5);
  vi.advanceTimersByTime(1 + turnMs);
  expect(rings).toEqual([11 + turnMs, 13 + turnMs]);
});

test('asks nothing of the clock for a time that never comes, and is silent when it is cleared', () => {
  const { alarm: it, rings } = alarm();
  it.by(Number.POSITIVE_INFINITY);
  expect(vi.getTimerCount()).toBe(0);
  it.by(start + 10);
  it.clear();
  expect(vi.getTimerCount()).toBe(0);
  it.by(start + 20);
  vi.advanceTimersByTime(1000);
  expect(rings).toEqual([20 + turnMs]);
});

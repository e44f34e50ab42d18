import { channel } from 'node:diagnostics_channel';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { steadyClock } from '../src/clock.ts';
import { refusal } from './refusal.ts';

/** A wall clock and a monotonic clock that are moved by hand. */
function clocks(toleranceMs = 5000) {
  const time = { wall: 1e12, monotonic: 0 };
  const read = steadyClock({
    now: () => time.wall,
    monotonic: () => time.monotonic,
    toleranceMs,
  });
  return {
    time,
    read,
    pass: (ms: number) => {
      time.wall += ms;
      time.monotonic += ms;
    },
  };
}

describe('steadyClock', () => {
  it('says what the wall clock says while it goes forward', () => {
    const { read, pass, time } = clocks();
    for (const ms of [0, 1, 99, 100, 1e7]) {
      pass(ms);
      expect(read()).toEqual({ nowMs: time.wall, latestMs: time.wall });
    }
  });

  it('goes on from the latest time seen when the wall clock steps back', () => {
    const { read, pass, time } = clocks();
    read();
    time.wall -= 3_600_000;
    expect(read()).toEqual({ nowMs: 1e12 - 3_600_000, latestMs: 1e12 });
    pass(60_000);
    expect(read()).toEqual({ nowMs: 1e12 - 3_540_000, latestMs: 1e12 + 60_000 });
  });

  it('notices a step back that time has hidden', () => {
    const { read, pass, time } = clocks();
    read();
    pass(7_200_000);
    time.wall -= 3_600_000;
    expect(read().latestMs).toBe(1e12 + 7_200_000);
  });

  it('brings nothing back to life by a step within the tolerance, and tells nobody of it', () => {
    const steps: unknown[] = [];
    const listen = (message: unknown) => steps.push(message);
    channel('countersign:jwt:clock-stepped-back').subscribe(listen);
    const { read, pass, time } = clocks(5000);
    read();
    time.wall -= 5000;
    expect(read()).toEqual({ nowMs: 1e12 - 5000, latestMs: 1e12 });
    // Also when the wall clock has caught up with itself, and is asked twice in a moment.
    pass(6000);
    expect(read().latestMs).toBe(1e12 + 6000);
    pass(10);
    expect(read().latestMs).toBe(1e12 + 6010);
    channel('countersign:jwt:clock-stepped-back').unsubscribe(listen);
    expect(steps).toEqual([]);
  });

  it('goes on at the pace of a clock that has no monotonic one beside it', () => {
    let wall = 1e12;
    const read = steadyClock({ now: () => wall, toleranceMs: 5000 });
    read();
    wall += 1000;
    expect(read()).toEqual({ nowMs: wall, latestMs: wall });
    wall -= 3_600_000;
    expect(read()).toEqual({ nowMs: wall, latestMs: 1e12 + 1000 });
    wall += 60_000;
    expect(read()).toEqual({ nowMs: wall, latestMs: 1e12 + 61_000 });
    wall -= 1;
    expect(read().latestMs).toBe(1e12 + 61_000);
    wall += 7_200_000;
    expect(read()).toEqual({ nowMs: wall, latestMs: 1e12 + 61_000 + 7_200_000 });
  });

  it('tells of a step once', () => {
    const steps: unknown[] = [];
    const listen = (message: unknown) => steps.push(message);
    channel('countersign:jwt:clock-stepped-back').subscribe(listen);
    const { read, time } = clocks();
    read();
    time.wall -= 60_000;
    read();
    read();
    channel('countersign:jwt:clock-stepped-back').unsubscribe(listen);
    expect(steps).toEqual([{ stepMs: 60_000 }]);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'refuses %s',
    (wrong) => {
      const read = steadyClock({ now: () => wrong, toleranceMs: 0 });
      expect(() => read()).toThrow(refusal('ERR_JWT_CLOCK'));
    },
  );

  it('never lets the latest time fall more than the tolerance behind the true one', () => {
    const event = fc.record({ passes: fc.nat(1e6), steps: fc.integer({ min: -1e7, max: 0 }) });
    fc.assert(
      fc.property(fc.array(event), fc.nat(10_000), (events, toleranceMs) => {
        const { read, pass, time } = clocks(toleranceMs);
        read();
        let truth = time.wall;
        for (const { passes, steps } of events) {
          pass(passes);
          truth += passes;
          time.wall += steps;
          const { nowMs, latestMs } = read();
          expect(nowMs).toBe(time.wall);
          // The monotonic clock is asked every 100 ms only.
          expect(latestMs).toBeGreaterThanOrEqual(truth - toleranceMs - 100);
        }
      }),
    );
  });
});

import type { OptionNames } from '@countersign/options';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

/**
 * When attempts are made: how long to wait before each, in milliseconds. The first is the wait before the first
 * attempt, 0 as a rule. A function is asked with the attempt's number (from 1) and ends the delivery with `undefined`.
 */
export type Schedule = readonly number[] | ((attempt: number) => number | undefined);

/** Ten attempts over three days: 0, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h. */
export const defaultSchedule: readonly number[] = Object.freeze([
  0,
  5 * SECOND,
  5 * MINUTE,
  30 * MINUTE,
  2 * HOUR,
  5 * HOUR,
  10 * HOUR,
  14 * HOUR,
  20 * HOUR,
  24 * HOUR,
]);

export interface ScheduleOptions {
  /** Default {@link defaultSchedule}. */
  readonly schedule?: Schedule;
  /** Spreads waits by up to this part, both ways, so that a crowd does not come back in step: 0 to 1, default 0.2. */
  readonly jitter?: number;
  /** Uniform in [0, 1). Default `Math.random`. */
  readonly random?: () => number;
}

export const scheduleOptions: OptionNames<ScheduleOptions> = {
  schedule: true,
  jitter: true,
  random: true,
};

/** The wait before attempt number `attempt`, in whole milliseconds; `undefined` when there is none. */
export type NextDelay = (attempt: number) => number | undefined;

/** @throws TypeError when the schedule is empty or has waits that are not. */
export function delays(options: ScheduleOptions = {}): NextDelay {
  const { schedule = defaultSchedule, jitter = 0.2, random = Math.random } = options;
  if (!(jitter >= 0 && jitter <= 1)) throw new TypeError('jitter must be a number from 0 to 1');
  if (typeof schedule !== 'function') {
    if (schedule.length === 0) throw new TypeError('schedule must have at least one wait');
    for (const wait of schedule) assertWait(wait);
  }
  const wanted = (attempt: number): number | undefined =>
    typeof schedule === 'function' ? schedule(attempt) : schedule[attempt - 1];
  return (attempt) => {
    const wait = wanted(attempt);
    if (wait === undefined) return undefined;
    assertWait(wait);
    return Math.round(wait * (1 + jitter * (2 * random() - 1)));
  };
}

function assertWait(wait: number): void {
  // Node.js timers end at 2^31 − 1 ms; jitter may double a wait.
  if (Number.isFinite(wait) && wait >= 0 && wait <= 1_000_000_000) return;
  throw new TypeError('schedule: a wait must be a number of milliseconds from 0 to 1,000,000,000');
}

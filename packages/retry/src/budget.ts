import { assertKnown, type OptionNames } from '@countersign/options';

/** How many retries a {@link RetryBudget} grants. */
export interface RetryBudgetOptions {
  /** Retries granted for each call, from 0 to 1. Default 0.2: at most a fifth more load. */
  readonly ratio?: number;
  /** Retries granted each second whatever the traffic, so that a quiet caller may retry at all. Default 1. */
  readonly minPerSecond?: number;
  /**
   * How many retries may go beyond `ratio` without a call that succeeded in between, a whole number or `Infinity`
   * (default). With a limit, call {@link RetryBudget.succeeded}; a server that is dead then sees no more than
   * `ratio` × calls + `reserve` retries however long it is dead.
   */
  readonly reserve?: number;
  /** Calls count for this long, in milliseconds, from 1,000 to 3,600,000. Default 10,000. */
  readonly windowMs?: number;
  /** A clock in milliseconds. Default `performance.now`. */
  readonly now?: () => number;
}

/**
 * Keeps retries in proportion to calls, so that retries cannot multiply the load on a server that is failing
 * (a token bucket whose tokens expire, after Finagle's `RetryBudget`).
 * Within each window: retries ≤ `ratio` × calls + `minPerSecond` × window. From the start, or from a success, to the
 * next success: retries ≤ `ratio` × calls + `reserve`, where calls of the window before the start count, too.
 */
export interface RetryBudget {
  /** Counts one call. Once per call, not per attempt. */
  deposit(): void;
  /** Takes one retry; `false` when none is left, and then nothing is taken. */
  tryWithdraw(): boolean;
  /** Says that a call succeeded: the reserve is full again. */
  succeeded(): void;
  /** How many retries would be granted now: a whole number, at least 0. */
  readonly balance: number;
}

// The window moves in tenths: a call stops counting 0.9 to 1 windows after it was made.
const SLICES = 10;
// Ten deposits at 0.1 are one retry, although 10 × 0.1 in binary may fall short of 1.
const ROUNDING = 1e-9;

const known: OptionNames<RetryBudgetOptions> = {
  ratio: true,
  minPerSecond: true,
  reserve: true,
  windowMs: true,
  now: true,
};

/**
 * Creates a budget. Give each origin its own: a dead server must not use up the retries of a healthy one.
 * @throws TypeError when an option is not what it must be, or there is no such option.
 */
export function retryBudget(options: RetryBudgetOptions = {}): RetryBudget {
  assertKnown(options, known);
  const {
    ratio = 0.2,
    minPerSecond = 1,
    reserve = Infinity,
    windowMs = 10_000,
    now = () => performance.now(),
  } = options;
  if (!(Number.isFinite(ratio) && ratio >= 0 && ratio <= 1)) {
    throw new TypeError('ratio must be a number from 0 to 1');
  }
  if (!(Number.isFinite(minPerSecond) && minPerSecond >= 0)) {
    throw new TypeError('minPerSecond must be a finite number, at least 0');
  }
  if (!((Number.isInteger(reserve) || reserve === Infinity) && reserve >= 0)) {
    throw new TypeError('reserve must be a whole number, at least 0, or Infinity');
  }
  if (!(windowMs >= 1000 && windowMs <= 3_600_000)) {
    throw new TypeError('windowMs must be a number of milliseconds from 1,000 to 3,600,000');
  }

  const minimum = (minPerSecond * windowMs) / 1000;
  const sliceMs = windowMs / SLICES;
  const deposits = new Uint32Array(SLICES);
  const withdrawals = new Uint32Array(SLICES);
  let deposited = 0;
  let withdrawn = 0;
  /** Retries beyond what calls had paid for, since the last success. */
  let overdrawn = 0;
  let current = Math.floor(now() / sliceMs);

  /** Forgets what has expired and returns the slice of this moment. A clock that steps back stays where it was. */
  function slice(): number {
    const target = Math.floor(now() / sliceMs);
    const steps = Math.min(target - current, SLICES);
    for (let step = 1; step <= steps; step += 1) {
      const index = (current + step) % SLICES;
      deposited -= deposits[index] ?? 0;
      withdrawn -= withdrawals[index] ?? 0;
      deposits[index] = 0;
      withdrawals[index] = 0;
    }
    if (target > current) current = target;
    return current % SLICES;
  }

  /** What the calls of the window have paid for and is not used; below 0 when more was used. */
  function paid(): number {
    return ratio * deposited - withdrawn + ROUNDING;
  }

  function available(): number {
    const left = Math.max(0, paid()) + reserve - overdrawn;
    return Math.max(0, Math.floor(Math.min(paid() + minimum, left)));
  }

  return {
    deposit() {
      const index = slice();
      deposits[index] = (deposits[index] ?? 0) + 1;
      deposited += 1;
    },
    tryWithdraw() {
      const index = slice();
      if (available() < 1) return false;
      if (paid() < 1) overdrawn += 1;
      withdrawals[index] = (withdrawals[index] ?? 0) + 1;
      withdrawn += 1;
      return true;
    },
    succeeded() {
      overdrawn = 0;
    },
    get balance() {
      slice();
      return available();
    },
  };
}

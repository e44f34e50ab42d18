import { assertKnown, type OptionNames } from '@countersign/options';

/** When a circuit opens, and when it is tried again. */
export interface BreakerOptions {
  /** Opens when this share of attempts failed within the window, above 0 to 1. Default 0.5. */
  readonly failureRatio?: number;
  /** But not before this many attempts in the window. Default 20. */
  readonly minimumAttempts?: number;
  /** Milliseconds, from 1,000. Default 10,000. */
  readonly windowMs?: number;
  /** How long it stays open before a probe is let through, in milliseconds. Default 5,000. */
  readonly openMs?: number;
  /** Probes at the same time while half-open, and successes in a row that close it. Default 1. */
  readonly probes?: number;
  /** A clock in milliseconds. Default `performance.now`. */
  readonly now?: () => number;
}

export type BreakerState = 'closed' | 'open' | 'half_open';

/** Stops sending to an origin that fails, so that it can recover and callers learn at once. */
export interface Breaker {
  readonly state: BreakerState;
  /** Asks to send: a ticket to `leave` with, or 0 when it is open. */
  tryEnter(): number;
  /** Reports what became of it; `undefined` when it says nothing about the origin (the caller gave up). */
  leave(ticket: number, succeeded: boolean | undefined): void;
  /** Milliseconds until it may let a probe through; 0 unless it is open. */
  readonly retryInMs: number;
}

const SLICES = 10;

const known: OptionNames<BreakerOptions> = {
  failureRatio: true,
  minimumAttempts: true,
  windowMs: true,
  openMs: true,
  probes: true,
  now: true,
};

/**
 * Creates a circuit breaker, one for each origin. `onChange` is called with every change of its state.
 * @throws TypeError when an option is not what it must be.
 */
export function circuitBreaker(
  options: BreakerOptions = {},
  onChange: (state: BreakerState) => void = () => {},
): Breaker {
  assertKnown(options, known, 'breaker.');
  const { failureRatio = 0.5, minimumAttempts = 20, windowMs = 10_000, openMs = 5000 } = options;
  const { probes = 1, now = () => performance.now() } = options;
  if (!(failureRatio > 0 && failureRatio <= 1)) {
    throw new TypeError('breaker.failureRatio must be a number above 0, at most 1');
  }
  for (const [name, value, least] of [
    ['minimumAttempts', minimumAttempts, 1],
    ['windowMs', windowMs, 1000],
    ['openMs', openMs, 1],
    ['probes', probes, 1],
  ] as const) {
    if (!(Number.isInteger(value) && value >= least)) {
      throw new TypeError(`breaker.${name} must be a whole number, at least ${least}`);
    }
  }

  const sliceMs = windowMs / SLICES;
  const attempts = new Uint32Array(SLICES);
  const failures = new Uint32Array(SLICES);
  let attempted = 0;
  let failed = 0;
  let current = Math.floor(now() / sliceMs);
  let state: BreakerState = 'closed';
  let openUntil = 0;
  let probing = 0;
  let recovered = 0;
  /** Counts the changes of state. What was sent before the last one says nothing about the origin as it is now. */
  let era = 1;

  function become(next: BreakerState): void {
    state = next;
    era += 1;
    probing = 0;
    recovered = 0;
    if (next === 'open') openUntil = now() + openMs;
    if (next === 'closed') forget(SLICES);
    onChange(next);
  }

  function forget(slices: number): void {
    for (let step = 1; step <= slices; step += 1) {
      const index = (current + step) % SLICES;
      attempted -= attempts[index] ?? 0;
      failed -= failures[index] ?? 0;
      attempts[index] = 0;
      failures[index] = 0;
    }
  }

  function count(succeeded: boolean): void {
    const target = Math.floor(now() / sliceMs);
    if (target > current) {
      forget(Math.min(target - current, SLICES));
      current = target;
    }
    const index = current % SLICES;
    attempts[index] = (attempts[index] ?? 0) + 1;
    attempted += 1;
    if (succeeded) return;
    failures[index] = (failures[index] ?? 0) + 1;
    failed += 1;
    if (attempted >= minimumAttempts && failed >= failureRatio * attempted) become('open');
  }

  return {
    get state() {
      return state;
    },
    get retryInMs() {
      return state === 'open' ? Math.max(0, openUntil - now()) : 0;
    },
    tryEnter() {
      if (state === 'closed') return era;
      if (state === 'open' && now() >= openUntil) become('half_open');
      if (state === 'open' || probing >= probes) return 0;
      probing += 1;
      return era;
    },
    leave(ticket, succeeded) {
      if (ticket !== era) return;
      if (state === 'closed') {
        if (succeeded !== undefined) count(succeeded);
        return;
      }
      probing -= 1;
      if (succeeded === false) become('open');
      else if (succeeded) {
        recovered += 1;
        if (recovered >= probes) become('closed');
      }
    },
  };
}

import { performance } from 'node:perf_hooks';
import { JwtError } from './errors.ts';
import { clockSteppedBack } from './events.ts';

/** Milliseconds since 1970, twice: what the clock says, and the latest it can be without having ever been wrong. */
export interface Instant {
  /** Decides whether something has begun (`nbf`, `iat`). */
  readonly nowMs: number;
  /** Decides whether something is over (`exp`). Later than `nowMs` only after the clock stepped back. */
  readonly latestMs: number;
}

export interface ClockOptions {
  /** Milliseconds since 1970. Default `Date.now`. */
  readonly now?: (() => number) | undefined;
  /**
   * Milliseconds that only ever grow, given what `now` says. Default: `performance.now` beside `Date.now`; beside another
   * `now`, how far it has gone forward.
   */
  readonly monotonic?: (nowMs: number) => number;
  /** A step back of no more than this is an ordinary correction, of which nobody is told. */
  readonly toleranceMs: number;
}

/** What `now` says. @throws JwtError `ERR_JWT_CLOCK` when that is no time: whatever is compared with it comes out false. */
export function timeOf(now: () => number): number {
  const nowMs = now();
  if (!Number.isFinite(nowMs)) throw noTime();
  return nowMs;
}

export function noTime(): JwtError {
  return new JwtError('ERR_JWT_CLOCK', 'The clock gave no time');
}

/** The monotonic clock is asked no more often than this while `now` moves on as it should: asking costs as much as a hit. */
const RESAMPLE_MS = 100;

/**
 * A clock that expired tokens cannot come back to life by. When `now` steps back, however little, `latestMs` goes on from the latest time seen, at the pace of the monotonic clock: whichever of the two is right, what is over
 * stays over. It costs tokens their validity early if the clock had been ahead before (until the process restarts).
 */
export function steadyClock(options: ClockOptions): () => Instant {
  const { now = Date.now, toleranceMs } = options;
  const monotonic =
    options.monotonic ?? (options.now ? forwardMovement() : () => performance.now());
  /** The most that `now` has been ahead of the monotonic clock. */
  let leadMs = Number.NEGATIVE_INFINITY;
  let sampledAtMs = Number.NEGATIVE_INFINITY;
  let peakMs = Number.NEGATIVE_INFINITY;
  /** How far `now` was behind when it was last compared. */
  let stepMs = 0;
  let behind = false;
  return () => {
    const nowMs = now();
    if (nowMs >= peakMs && nowMs - sampledAtMs < RESAMPLE_MS) {
      peakMs = nowMs;
      return { nowMs, latestMs: nowMs + stepMs };
    }
    if (!Number.isFinite(nowMs)) throw noTime();
    const elapsedMs = monotonic(nowMs);
    const latestMs = Math.max(peakMs, leadMs + elapsedMs, nowMs);
    leadMs = Math.max(leadMs, nowMs - elapsedMs);
    peakMs = Math.max(peakMs, nowMs);
    stepMs = latestMs - nowMs;
    if (stepMs <= toleranceMs) {
      sampledAtMs = nowMs;
      behind = false;
      return { nowMs, latestMs };
    }
    if (!behind && clockSteppedBack.hasSubscribers) clockSteppedBack.publish({ stepMs });
    behind = true;
    return { nowMs, latestMs };
  };
}

/** Counts what a clock goes forward, and not what it goes back. */
function forwardMovement(): (nowMs: number) => number {
  let lastMs = Number.POSITIVE_INFINITY;
  let elapsedMs = 0;
  return (nowMs) => {
    elapsedMs += Math.max(0, nowMs - lastMs);
    lastMs = nowMs;
    return elapsedMs;
  };
}

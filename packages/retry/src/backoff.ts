import { assertKnown, type OptionNames } from '@countersign/options';

/** How {@link exponentialBackoff} spreads its waits. */
export interface BackoffOptions {
  /** The longest wait before the first retry, in milliseconds. Above 0. */
  readonly baseMs: number;
  /** No wait is longer than this, in milliseconds. At least `baseMs`. */
  readonly capMs: number;
  /**
   * - `full` (default): anything from 0 to the exponential ceiling. Spreads a crowd of callers best.
   * - `decorrelated`: from `baseMs` to three times the previous wait. Never shorter than `baseMs`.
   * - `none`: the ceiling itself. For schedules that people read; a crowd of callers comes back in step.
   */
  readonly jitter?: 'full' | 'decorrelated' | 'none';
  /** Uniform in [0, 1). Default `Math.random`. */
  readonly random?: () => number;
}

/**
 * The wait before retry number `retry` (1 is the first), in whole milliseconds.
 * `previousMs` is the wait that was used before it; only decorrelated jitter looks at it (default: `baseMs`).
 */
export type Backoff = (retry: number, previousMs?: number) => number;

const known: OptionNames<BackoffOptions> = {
  baseMs: true,
  capMs: true,
  jitter: true,
  random: true,
};

/**
 * Exponential backoff with jitter: the ceiling is `baseMs`, doubled for each further retry, up to `capMs`.
 * @throws TypeError when an option is not what it must be, or there is no such option.
 */
export function exponentialBackoff(options: BackoffOptions): Backoff {
  assertKnown(options, known);
  const { baseMs, capMs, jitter = 'full', random = Math.random } = options;
  if (!(Number.isFinite(baseMs) && baseMs > 0)) {
    throw new TypeError('baseMs must be a number of milliseconds above 0');
  }
  if (!(Number.isFinite(capMs) && capMs >= baseMs)) {
    throw new TypeError('capMs must be a finite number of milliseconds, at least baseMs');
  }
  if (typeof random !== 'function') throw new TypeError('random must be a function');
  const between = (low: number, high: number): number => Math.round(low + random() * (high - low));
  const ceiling = (retry: number): number => Math.min(capMs, baseMs * 2 ** (retry - 1));
  switch (jitter) {
    case 'full':
      return (retry) => between(0, ceiling(checked(retry)));
    case 'decorrelated':
      return (retry, previousMs = baseMs) => {
        checked(retry);
        // A wait of NaN would be none at all, to every timer.
        if (!(typeof previousMs === 'number' && previousMs >= 0)) {
          throw new TypeError('previousMs must be a number of milliseconds, at least 0');
        }
        return between(baseMs, Math.min(capMs, Math.max(baseMs, previousMs * 3)));
      };
    case 'none':
      return (retry) => Math.round(ceiling(checked(retry)));
    default:
      throw new TypeError("jitter must be 'full', 'decorrelated' or 'none'");
  }
}

function checked(retry: number): number {
  if (!(Number.isInteger(retry) && retry >= 1)) {
    throw new TypeError('retry must be a whole number, 1 for the first retry');
  }
  return retry;
}

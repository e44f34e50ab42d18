import { RetryError } from './errors.ts';

/** The longest wait that a Node.js timer can do (about 24.8 days); a longer one would fire at once. */
const LONGEST_TIMER_MS = 2_147_483_647;

/** Options of {@link deadline}. */
export interface DeadlineOptions {
  /** A monotonic clock in milliseconds. Default `performance.now`. */
  readonly now?: () => number;
}

/** A moment by which something must be over, shared by everything that is done on the way. */
export interface Deadline extends Disposable {
  /** Milliseconds left; 0 when it has passed, whatever the signal says. */
  remaining(): number;
  /**
   * Aborts when the time is up (reason: `RetryError`, `ERR_RETRY_DEADLINE_EXCEEDED`) or when the outer signal aborts
   * (its reason), whichever comes first. The timer starts when this is first read and does not keep the process alive.
   */
  readonly signal: AbortSignal;
  /** A deadline for one part of the work: `ms` from now, never later than this one. */
  within(ms: number): Deadline;
  /** Stops the timer and lets go of the outer signal. Afterwards the signal no longer aborts. */
  dispose(): void;
}

/**
 * Starts a deadline `ms` milliseconds from now (0 to 2,147,483,647, or `Infinity` for none).
 * Dispose of it (`using`, or `dispose()`) when the work is done.
 * @param signal - an outer signal: its abort is passed on at once.
 * @throws TypeError when `ms` is not such a number.
 */
export function deadline(
  ms: number,
  signal?: AbortSignal,
  options: DeadlineOptions = {},
): Deadline {
  checkDuration(ms);
  const { now = () => performance.now() } = options;
  return new RunningDeadline(now() + ms, signal, now, true);
}

/** A class, because every call of a client has one: closures for each would cost several times as much. */
class RunningDeadline implements Deadline {
  readonly #endsAt: number;
  readonly #outer: AbortSignal | undefined;
  readonly #now: () => number;
  readonly #timed: boolean;
  #controller: AbortController | undefined;
  #timer: NodeJS.Timeout | undefined;
  #follow: (() => void) | undefined;
  #disposed = false;

  /** @param timed - whether it needs a timer; a part that ends with the whole is ended by the whole's signal. */
  constructor(endsAt: number, outer: AbortSignal | undefined, now: () => number, timed: boolean) {
    this.#endsAt = endsAt;
    this.#outer = outer;
    this.#now = now;
    this.#timed = timed;
  }

  remaining(): number {
    return Math.max(0, this.#endsAt - this.#now());
  }

  get signal(): AbortSignal {
    return (this.#controller ?? this.#open()).signal;
  }

  within(ms: number): Deadline {
    checkDuration(ms);
    const endsAt = this.#now() + ms;
    const earlier = Math.min(endsAt, this.#endsAt);
    return new RunningDeadline(earlier, this.signal, this.#now, endsAt < this.#endsAt);
  }

  dispose(): void {
    this.#disposed = true;
    this.#release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #open(): AbortController {
    const controller = new AbortController();
    this.#controller = controller;
    if (this.#disposed) return controller;
    const leftMs = this.remaining();
    if (this.#outer?.aborted) this.#abort(this.#outer.reason);
    else if (this.#timed && leftMs === 0) this.#expire();
    else {
      this.#follow = () => this.#abort(this.#outer?.reason);
      this.#outer?.addEventListener('abort', this.#follow, { once: true });
      if (this.#timed && leftMs !== Infinity) {
        this.#timer = setTimeout(() => this.#expire(), Math.ceil(leftMs)).unref();
      }
    }
    return controller;
  }

  #expire(): void {
    this.#abort(new RetryError('ERR_RETRY_DEADLINE_EXCEEDED', 'the deadline has passed'));
  }

  #abort(reason: unknown): void {
    this.#release();
    this.#controller?.abort(reason);
  }

  #release(): void {
    clearTimeout(this.#timer);
    if (this.#follow) this.#outer?.removeEventListener('abort', this.#follow);
  }
}

/**
 * Waits `ms` milliseconds (0 to 2,147,483,647). Unlike a deadline's timer it keeps the process alive: a program
 * that waits for its next attempt is not finished. It never ends early.
 * @throws the signal's reason, at once, when it aborts or has aborted before.
 */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (!isTimer(ms)) {
    throw new TypeError(`ms must be a number from 0 to ${LONGEST_TIMER_MS}`);
  }
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const endsAt = performance.now() + ms;
    let timer: NodeJS.Timeout;
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    // Timers count from the start of the event loop's turn, so one that is set late in a turn fires too early.
    const wait = (leftMs: number): void => {
      timer = setTimeout(() => {
        const stillMs = endsAt - performance.now();
        if (stillMs > 0) {
          wait(Math.ceil(stillMs));
          return;
        }
        signal?.removeEventListener('abort', stop);
        resolve();
      }, leftMs);
    };
    wait(ms);
    signal?.addEventListener('abort', stop, { once: true });
  });
}

function checkDuration(ms: number): void {
  if (!(isTimer(ms) || ms === Infinity)) {
    throw new TypeError(`ms must be a number from 0 to ${LONGEST_TIMER_MS}, or Infinity`);
  }
}

/** Not `null`, which compares like 0, nor the text of a number, which would be appended to the clock's. */
function isTimer(ms: unknown): boolean {
  return typeof ms === 'number' && ms >= 0 && ms <= LONGEST_TIMER_MS;
}

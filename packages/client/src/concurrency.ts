import { assertKnown, type OptionNames } from '@countersign/options';

/** How many calls run at the same time. */
export interface ConcurrencyOptions {
  /** Calls that run at the same time. Default 100. */
  readonly limit?: number;
  /** Calls that wait for their turn; one more is refused at once. Default 1,000. */
  readonly maxQueued?: number;
}

/** A bound on what runs at the same time, first come, first served. */
export interface ConcurrencyBound {
  readonly running: number;
  readonly queued: number;
  /** Takes a place if one is free. */
  tryEnter(): boolean;
  /**
   * Waits for a place; `undefined` when too many are waiting already.
   * @throws the signal's reason when it aborts first.
   */
  enter(signal: AbortSignal): Promise<void> | undefined;
  /** Gives the place back, or to the one who has waited longest. */
  leave(): void;
}

const known: OptionNames<ConcurrencyOptions> = { limit: true, maxQueued: true };

/** @throws TypeError when an option is not what it must be. */
export function concurrencyBound(options: ConcurrencyOptions = {}): ConcurrencyBound {
  assertKnown(options, known, 'concurrency.');
  const { limit = 100, maxQueued = 1000 } = options;
  if (!(Number.isInteger(limit) && limit >= 1)) {
    throw new TypeError('concurrency.limit must be a whole number, at least 1');
  }
  if (!(Number.isInteger(maxQueued) && maxQueued >= 0)) {
    throw new TypeError('concurrency.maxQueued must be a whole number, at least 0');
  }
  // A Set keeps the order of arrival and lets one who gives up leave from the middle.
  const waiting = new Set<() => void>();
  let running = 0;

  return {
    get running() {
      return running;
    },
    get queued() {
      return waiting.size;
    },
    tryEnter() {
      if (running >= limit) return false;
      running += 1;
      return true;
    },
    enter(signal) {
      if (waiting.size >= maxQueued) return undefined;
      return new Promise((resolve, reject) => {
        if (signal.aborted) {
          reject(signal.reason as Error);
          return;
        }
        const giveUp = (): void => {
          waiting.delete(proceed);
          reject(signal.reason as Error);
        };
        const proceed = (): void => {
          signal.removeEventListener('abort', giveUp);
          resolve();
        };
        signal.addEventListener('abort', giveUp, { once: true });
        waiting.add(proceed);
      });
    },
    leave() {
      const [next] = waiting;
      if (next) {
        waiting.delete(next);
        next();
      } else {
        running -= 1;
      }
    },
  };
}

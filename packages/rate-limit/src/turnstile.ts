import { RateLimitError } from './errors.ts';

const maxWaiters = 10_000;

/** Who waits for the same thing: the first of them tries, the others stand behind. */
interface Line {
  readonly behind: { readonly turn: () => void }[];
  /** Ends the sleep of the first; `undefined` while it does not sleep. */
  wake: (() => void) | undefined;
  /** Something was given back while the first did not sleep. */
  woken: boolean;
}

/** Lets those who wait for the same thing try one at a time, in the order in which they came. */
export class Turnstile {
  readonly #lines = new Map<string, Line>();

  /** Whether somebody waits: who comes now must not overtake. */
  occupied(key: string): boolean {
    return this.#lines.has(key);
  }

  /** Waits for the turn; the returned function passes it on and must be called. */
  async enter(
    key: string,
    signal: AbortSignal | undefined,
    maxWaitMs: number,
  ): Promise<() => void> {
    signal?.throwIfAborted();
    const line = this.#lines.get(key);
    if (line === undefined) this.#lines.set(key, { behind: [], wake: undefined, woken: false });
    else {
      const { behind } = line;
      if (behind.length >= maxWaiters) throw waitTooLong();
      const place = { turn: (): void => {} };
      const outcome = await pause(maxWaitMs, signal, {
        began: (wake) => {
          place.turn = wake;
          behind.push(place);
        },
        // At once, so that the turn is never passed to somebody who has left.
        ended: () => {
          const position = behind.indexOf(place);
          if (position >= 0) behind.splice(position, 1);
        },
      });
      if (outcome === 'expired') throw waitTooLong();
    }
    return () => this.#next(key);
  }

  /** To be called by the first of the line before it tries: what is given back from now on must not be missed. */
  tries(key: string): void {
    const line = this.#lines.get(key);
    if (line) line.woken = false;
  }

  /** Sleeps, as the first of the line, until the time is over or somebody wakes it, which may have happened already. */
  async sleep(key: string, ms: number, signal: AbortSignal | undefined): Promise<void> {
    const line = this.#lines.get(key);
    if (line === undefined || line.woken) return;
    await pause(ms, signal, {
      began: (wake) => {
        line.wake = wake;
      },
      ended: () => {
        line.wake = undefined;
      },
    });
  }

  /** Something was given back: the first of the line may try now. */
  wake(key: string): void {
    const line = this.#lines.get(key);
    if (line === undefined) return;
    line.woken = true;
    line.wake?.();
  }

  /** What everybody was told may be wrong by now: the first of every line may try. */
  wakeAll(): void {
    for (const key of this.#lines.keys()) this.wake(key);
  }

  #next(key: string): void {
    const next = this.#lines.get(key)?.behind.shift();
    if (next) next.turn();
    else this.#lines.delete(key);
  }
}

export function assertWait(maxWaitMs: number): void {
  if (typeof maxWaitMs !== 'number' || !(maxWaitMs >= 0))
    throw new TypeError('maxWaitMs: expected milliseconds, at least 0');
}

export function waitTooLong(retryAfterMs?: number): RateLimitError {
  const options = retryAfterMs === undefined ? {} : { retryAfterMs };
  return new RateLimitError('ERR_RATE_LIMIT_WAIT', 'it would take longer than it may', options);
}

/** Resolves when woken or when the time is over, rejects when aborted. */
async function pause(
  ms: number,
  signal: AbortSignal | undefined,
  watch: { began(wake: () => void): void; ended(): void },
): Promise<'woken' | 'expired'> {
  signal?.throwIfAborted();
  return await new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      watch.ended();
    };
    const abort = (): void => {
      end();
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(
      () => {
        end();
        resolve('expired');
      },
      Math.min(ms, 2 ** 31 - 1),
    );
    watch.began(() => {
      end();
      resolve('woken');
    });
    signal?.addEventListener('abort', abort, { once: true });
  });
}

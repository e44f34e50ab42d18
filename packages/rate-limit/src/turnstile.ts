import { RateLimitError } from './errors.ts';

const maxWaiters = 10_000;

/** Lets those who wait for the same thing try one at a time, in the order in which they came. */
export class Turnstile {
  /** Who waits behind the one whose turn it is. */
  readonly #queues = new Map<string, { readonly turn: () => void }[]>();
  readonly #sleepers = new Map<string, () => void>();

  /** Waits for the turn; the returned function passes it on and must be called. */
  async enter(
    key: string,
    signal: AbortSignal | undefined,
    maxWaitMs: number,
  ): Promise<() => void> {
    signal?.throwIfAborted();
    const queue = this.#queues.get(key);
    if (queue === undefined) this.#queues.set(key, []);
    else {
      if (queue.length >= maxWaiters) throw waitTooLong();
      const place = { turn: (): void => {} };
      const outcome = await pause(maxWaitMs, signal, {
        began: (wake) => {
          place.turn = wake;
          queue.push(place);
        },
        // At once, so that the turn is never passed to somebody who has left.
        ended: () => {
          const position = queue.indexOf(place);
          if (position >= 0) queue.splice(position, 1);
        },
      });
      if (outcome === 'expired') throw waitTooLong();
    }
    return () => this.#next(key);
  }

  /** Sleeps, at the head of the queue, until the time is over or somebody wakes it. */
  async sleep(key: string, ms: number, signal: AbortSignal | undefined): Promise<void> {
    await pause(ms, signal, {
      began: (wake) => this.#sleepers.set(key, wake),
      ended: () => this.#sleepers.delete(key),
    });
  }

  /** Something was given back: the head of the queue may try now. */
  wake(key: string): void {
    this.#sleepers.get(key)?.();
  }

  #next(key: string): void {
    const next = this.#queues.get(key)?.shift();
    if (next) next.turn();
    else this.#queues.delete(key);
  }
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

import { storeRecoveredChannel } from './events.ts';

const failuresBeforePause = 3;
export const probeIntervalMs = 1000;

/**
 * Spares requests the wait for a store that does not answer: after three failures in a row it is asked by one request a
 * second only, until one succeeds.
 */
export class StoreHealth {
  readonly #now: () => number;
  #failures = 0;
  #downSince = 0;
  #askedAt = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Whether the store should be asked; `true` for one caller per interval while it fails. */
  shouldAsk(): boolean {
    if (this.#failures < failuresBeforePause) return true;
    const now = this.#now();
    const sinceMs = now - this.#askedAt;
    // Below 0: the clock was set back, and nobody knows how long ago that was.
    if (sinceMs >= 0 && sinceMs < probeIntervalMs) return false;
    this.#askedAt = now;
    return true;
  }

  succeeded(): void {
    if (this.#failures === 0) return;
    this.#failures = 0;
    if (storeRecoveredChannel.hasSubscribers)
      storeRecoveredChannel.publish({ downMs: this.#now() - this.#downSince });
  }

  failed(): void {
    if (this.#failures === 0) this.#downSince = this.#now();
    this.#failures += 1;
    this.#askedAt = this.#now();
  }
}

import { WebhookError } from './errors.ts';
import { processedChannel } from './events.ts';
import type { ReplayStore } from './store.ts';

export interface LeaseOptions {
  readonly store: ReplayStore;
  readonly source: string;
  readonly leaseMs: number;
  readonly ttlMs: number;
}

/** A claim that is kept alive while its webhook is processed. */
export interface Lease {
  /** Aborts (`ERR_WEBHOOKS_CLAIM_LOST`) when the claim could not be kept: somebody else may be processing it now. */
  readonly signal: AbortSignal;
  /** It was processed. Reports what happened; rejects when the store cannot be reached. */
  complete(): Promise<void>;
  /** It was not: the next delivery may. */
  release(error?: unknown): Promise<void>;
}

/** Where a webhook is remembered: ids of different senders must not meet. */
export function storeKey(source: string, id: string): string {
  // Encoded, so that the first colon is the one between the two.
  return `${encodeURIComponent(source)}:${id}`;
}

/** Keeps a claim alive, by renewing it three times per lease, until it is completed or released. */
export function holdLease(options: LeaseOptions, id: string, token: string): Lease {
  const { store, source, leaseMs, ttlMs } = options;
  const key = storeKey(source, id);
  const controller = new AbortController();
  const timer = setInterval(() => void renew(), Math.max(1, Math.floor(leaseMs / 3))).unref();

  async function renew(): Promise<void> {
    // A store that cannot be reached for a moment is asked again: two tries are left before the lease ends.
    const held = await store.renew(key, token, leaseMs).catch(() => true);
    if (held) return;
    clearInterval(timer);
    controller.abort(
      new WebhookError('ERR_WEBHOOKS_CLAIM_LOST', 'the claim on this webhook ran out'),
    );
  }

  function report(outcome: 'completed' | 'released' | 'lost', error?: unknown): void {
    if (!processedChannel.hasSubscribers) return;
    processedChannel.publish({ source, id, outcome, ...(error !== undefined && { error }) });
  }

  return {
    signal: controller.signal,
    async complete() {
      clearInterval(timer);
      report((await store.complete(key, token, ttlMs)) ? 'completed' : 'lost');
    },
    async release(error) {
      clearInterval(timer);
      try {
        await store.release(key, token);
      } finally {
        report('released', error);
      }
    },
  };
}

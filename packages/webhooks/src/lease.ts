import { WebhookError } from './errors.ts';
import { processedChannel } from './events.ts';
import type { ReplayStore } from './store.ts';

export interface LeaseOptions {
  readonly store: ReplayStore;
  readonly source: string;
  readonly leaseMs: number;
  readonly ttlMs: number;
  /** How long processing may take. */
  readonly handleTimeoutMs: number;
}

/** A claim that is kept alive while its webhook is processed, for as long as that may take. */
export interface Lease {
  /**
   * Aborts when the claim could not be kept (`ERR_WEBHOOKS_CLAIM_LOST`), or is not kept any more because processing takes
   * too long (`ERR_WEBHOOKS_HANDLE_TIMEOUT`): somebody else may be processing it then.
   */
  readonly signal: AbortSignal;
  /** Resolves when processing takes too long. */
  readonly overdue: Promise<WebhookError>;
  /** It was processed. Reports what happened; rejects when the store cannot be reached. */
  complete(): Promise<void>;
  /** It was not: the next delivery may. */
  release(error?: unknown): Promise<void>;
}

export function handleTimeout(handleTimeoutMs: number): WebhookError {
  return new WebhookError(
    'ERR_WEBHOOKS_HANDLE_TIMEOUT',
    `processing took longer than ${handleTimeoutMs} ms`,
  );
}

/** Where a webhook is remembered: ids of different senders must not meet. */
export function storeKey(source: string, id: string): string {
  // Encoded, so that the first colon is the one between the two.
  return `${encodeURIComponent(source)}:${id}`;
}

/**
 * Keeps a claim alive, by renewing it three times per lease, until it is completed, released, or takes too long: then it runs
 * out with the lease, unless it ends before.
 * @param token - of the claim; without one there is nothing to keep, complete or release.
 */
export function holdLease(options: LeaseOptions, id: string, token: string | undefined): Lease {
  const { store, source, leaseMs, ttlMs, handleTimeoutMs } = options;
  const key = storeKey(source, id);
  const controller = new AbortController();
  const overdue = Promise.withResolvers<WebhookError>();
  const everyMs = Math.max(1, Math.floor(leaseMs / 3));
  const renewing = token === undefined ? undefined : setInterval(() => void renew(token), everyMs);
  renewing?.unref();
  // What hangs must not keep the process from ending, either.
  const patience = setTimeout(abandon, handleTimeoutMs).unref();

  async function renew(held: string): Promise<void> {
    // A store that cannot be reached for a moment is asked again: two tries are left before the lease ends.
    if (await store.renew(key, held, leaseMs).catch(() => true)) return;
    clearInterval(renewing);
    controller.abort(
      new WebhookError('ERR_WEBHOOKS_CLAIM_LOST', 'the claim on this webhook ran out'),
    );
  }

  function abandon(): void {
    clearInterval(renewing);
    const error = handleTimeout(handleTimeoutMs);
    report('abandoned', error);
    controller.abort(error);
    overdue.resolve(error);
  }

  function end(): void {
    clearInterval(renewing);
    clearTimeout(patience);
  }

  function report(outcome: 'completed' | 'released' | 'lost' | 'abandoned', error?: unknown): void {
    if (!processedChannel.hasSubscribers) return;
    processedChannel.publish({ source, id, outcome, ...(error !== undefined && { error }) });
  }

  return {
    signal: controller.signal,
    overdue: overdue.promise,
    async complete() {
      end();
      const held = token === undefined || (await store.complete(key, token, ttlMs));
      report(held ? 'completed' : 'lost');
    },
    async release(error) {
      end();
      try {
        if (token !== undefined) await store.release(key, token);
      } finally {
        report('released', error);
      }
    },
  };
}

import { channel } from 'node:diagnostics_channel';
import type { IdempotencyErrorCode } from './errors.ts';

/** What is published, and on which channel: `countersign:idempotency:<name>`. `id` is a hash: it tells no key. */
export interface IdempotencyEvents {
  /** A request was acquired and is about to run. `recovered`: it ran before, with an outcome nobody knows. */
  readonly started: { readonly id: string; readonly fence: number; readonly recovered: boolean };
  /** Its outcome is in the store. */
  readonly completed: { readonly id: string; readonly fence: number; readonly bytes: number };
  /** It was not executed; its key is free again. */
  readonly released: { readonly id: string; readonly fence: number };
  /** Its owner does not know how it ended. */
  readonly abandoned: { readonly id: string; readonly fence: number };
  /** A stored outcome was given again. */
  readonly replayed: { readonly id: string };
  /** A request was refused. */
  readonly refused: { readonly id: string | undefined; readonly code: IdempotencyErrorCode };
  /** The lease is over or taken: the handler's signal fires, its outcome will not count. */
  readonly 'lease-lost': { readonly id: string; readonly fence: number };
  /** The store failed. */
  readonly 'store-error': {
    readonly id: string;
    readonly operation: string;
    readonly error: unknown;
  };
}

const channels = new Map(
  (
    [
      'started',
      'completed',
      'released',
      'abandoned',
      'replayed',
      'refused',
      'lease-lost',
      'store-error',
    ] satisfies (keyof IdempotencyEvents)[]
  ).map((name) => [name as keyof IdempotencyEvents, channel(`countersign:idempotency:${name}`)]),
);

/** Publishes an event when somebody listens. */
export function publish<N extends keyof IdempotencyEvents>(
  name: N,
  message: IdempotencyEvents[N],
): void {
  const target = channels.get(name);
  if (target?.hasSubscribers) target.publish(message);
}

import { type Channel, channel } from 'node:diagnostics_channel';
import type { Decision } from './decision.ts';

/** `countersign:rate-limit:refused`: a request was refused, or would have been (`decision.shadowed`). */
export interface RefusedEvent {
  /** The subject's key: itself, or its hash when it is long. */
  readonly subject: string;
  readonly cost: number;
  readonly decision: Decision;
}

/** `countersign:rate-limit:store-failed`: the store could not be asked, and `onStoreError` decided. */
export interface StoreFailedEvent {
  readonly policy: string;
  readonly error: unknown;
}

/** `countersign:rate-limit:store-recovered`: the store answers again. */
export interface StoreRecoveredEvent {
  /** From the first failure on. */
  readonly downMs: number;
}

/** `countersign:rate-limit:restricted`: the other side said that it will take less for a while. */
export interface RestrictedEvent {
  readonly subject: string;
  readonly policy: string;
  readonly remaining: number;
  readonly durationMs: number;
}

export const refusedChannel: Channel<RefusedEvent> = channel(
  'countersign:rate-limit:refused',
) as Channel<RefusedEvent>;
export const storeFailedChannel: Channel<StoreFailedEvent> = channel(
  'countersign:rate-limit:store-failed',
) as Channel<StoreFailedEvent>;
export const storeRecoveredChannel: Channel<StoreRecoveredEvent> = channel(
  'countersign:rate-limit:store-recovered',
) as Channel<StoreRecoveredEvent>;
export const restrictedChannel: Channel<RestrictedEvent> = channel(
  'countersign:rate-limit:restricted',
) as Channel<RestrictedEvent>;

/** Says of a decision that it refuses, or would. */
export function reported(subject: string, cost: number, decision: Decision): Decision {
  if ((!decision.allowed || decision.shadowed) && refusedChannel.hasSubscribers)
    refusedChannel.publish({ subject, cost, decision });
  return decision;
}

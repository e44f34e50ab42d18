import { channel } from 'node:diagnostics_channel';
import type { AttemptOutcome } from './attempt.ts';

/** Every webhook that arrived, accepted or not: the audit trail. */
export interface ReceivedEvent {
  /** `accepted`: verified, claimed, valid. `duplicate`: verified, but known. Otherwise refused. */
  readonly outcome: 'accepted' | 'duplicate' | 'refused';
  /** The answer's status. */
  readonly status: number;
  /** Why it was refused: a `WebhookErrorCode`, or the code of the error that a store threw. */
  readonly code?: string;
  readonly scheme: string;
  /** Where it came from, as the receiver was told (`source`). */
  readonly source: string;
  /** Known once the signature held. */
  readonly id?: string;
  /** Which secret matched: tells when an old one is no longer used. */
  readonly keyIndex?: number;
  readonly bytes?: number;
  readonly remoteAddress?: string;
}

/** What became of an accepted webhook. */
export interface ProcessedEvent {
  readonly source: string;
  readonly id: string;
  /**
   * `lost`: it was processed, but the claim had meanwhile gone to somebody else, who processed it, too. `abandoned`: it took
   * longer than `handleTimeoutMs`, and is not waited for; should it end after all, that is told, too.
   */
  readonly outcome: 'completed' | 'released' | 'lost' | 'abandoned';
  /** What the handler or the store threw. */
  readonly error?: unknown;
}

/** One attempt of a delivery. */
export interface AttemptEvent extends AttemptOutcome {
  readonly eventId: string;
  /** The endpoint's id, or its origin: paths and queries of webhook URLs often carry secrets. */
  readonly endpoint: string;
}

/** The end of a delivery. */
export interface DeliveryEvent {
  readonly eventId: string;
  readonly endpoint: string;
  readonly outcome: string;
  readonly attempts: number;
}

/** A change of an endpoint's health, made by the queue. */
export interface EndpointEvent {
  readonly endpoint: string;
  /** `removed`: it is not in the store any more, and what is pending for it becomes dead letters. */
  readonly change: 'disabled' | 'enabled' | 'removed';
  /** Deliveries that wait for it. */
  readonly pending: number;
}

/** A channel whose messages have a type. */
export interface TypedChannel<T> {
  readonly hasSubscribers: boolean;
  publish(message: T): void;
}

export const receivedChannel: TypedChannel<ReceivedEvent> = named('received');
export const processedChannel: TypedChannel<ProcessedEvent> = named('processed');
export const attemptChannel: TypedChannel<AttemptEvent> = named('attempt');
export const endpointChannel: TypedChannel<EndpointEvent> = named('endpoint');
export const deliveryChannel: TypedChannel<DeliveryEvent> = named('delivery');

function named<T>(name: string): TypedChannel<T> {
  return channel(`countersign:webhooks:${name}`) as TypedChannel<T>;
}

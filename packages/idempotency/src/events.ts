import { channel } from 'node:diagnostics_channel';
import type { IdempotencyErrorCode } from './errors.ts';

/** A channel of `node:diagnostics_channel`, with the type of what it carries. */
interface Channel<Message> {
  readonly hasSubscribers: boolean;
  publish(message: Message): void;
}

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

/** Nothing is computed for a channel without subscribers. */
export const channels: {
  readonly started: Channel<IdempotencyEvents['started']>;
  readonly completed: Channel<IdempotencyEvents['completed']>;
  readonly released: Channel<IdempotencyEvents['released']>;
  readonly abandoned: Channel<IdempotencyEvents['abandoned']>;
  readonly replayed: Channel<IdempotencyEvents['replayed']>;
  readonly refused: Channel<IdempotencyEvents['refused']>;
  readonly leaseLost: Channel<IdempotencyEvents['lease-lost']>;
  readonly storeError: Channel<IdempotencyEvents['store-error']>;
} = {
  started: channel('countersign:idempotency:started'),
  completed: channel('countersign:idempotency:completed'),
  released: channel('countersign:idempotency:released'),
  abandoned: channel('countersign:idempotency:abandoned'),
  replayed: channel('countersign:idempotency:replayed'),
  refused: channel('countersign:idempotency:refused'),
  leaseLost: channel('countersign:idempotency:lease-lost'),
  storeError: channel('countersign:idempotency:store-error'),
};

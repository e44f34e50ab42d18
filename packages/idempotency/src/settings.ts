import type { OptionNames } from '@countersign/options';
import type { SealKeySource } from '@countersign/seal';
import { Heartbeat } from './heartbeat.ts';
import { beatsPerLease } from './lease.ts';
import { assertFunction } from './options.ts';
import { type PayloadSeal, sealWith, unsealed } from './seal.ts';
import type { IdempotencyStore } from './store.ts';

/** What guards and jobs have in common. */
export interface IdempotencyOptions {
  /** Where the records are: `memoryIdempotencyStore()`, or `redisIdempotencyStore(redis)` from `./redis`. */
  readonly store: IdempotencyStore;
  /**
   * For how long the record belongs to a handler that gives no sign of life, in milliseconds; default 30,000. It is
   * renewed when a third of it has passed, while the handler runs, so it need not be as long as the handler takes, only
   * longer than anything ever blocks the event loop.
   */
  readonly leaseMs?: number;
  /**
   * How long an outcome is kept and replayed, or known to be unknown, in milliseconds; default 86,400,000 (24 hours), at
   * least twice `leaseMs`: then the key is new.
   */
  readonly ttlMs?: number;
  /**
   * How long to wait for the outcome of the same request when it is in progress, in milliseconds; default 0. Whoever waits
   * asks the store again after 20 ms, then less and less often, every 500 ms in the end.
   */
  readonly waitMs?: number;
  /**
   * When the store fails: `closed` (default) refuses, `open` runs the request without protection against a second
   * execution.
   */
  readonly onStoreError?: 'closed' | 'open';
  /**
   * Encrypts what is stored (`@countersign/seal`). The first key encrypts, all of them decrypt; 32 random bytes each, or a
   * function that gets them. Default: not encrypted.
   */
  readonly encryptionKeys?: readonly SealKeySource[];
  /** Milliseconds since the epoch; default `Date.now`. The store decides about leases by its own clock. */
  readonly now?: () => number;
}

export const commonOptions: OptionNames<IdempotencyOptions> = {
  store: true,
  leaseMs: true,
  ttlMs: true,
  waitMs: true,
  onStoreError: true,
  encryptionKeys: true,
  now: true,
};

export interface Settings {
  readonly store: IdempotencyStore;
  readonly leaseMs: number;
  readonly ttlMs: number;
  readonly waitMs: number;
  readonly onStoreError: 'closed' | 'open';
  readonly seal: PayloadSeal;
  readonly heartbeat: Heartbeat;
  readonly now: () => number;
}

const operations = ['begin', 'renew', 'complete', 'release', 'abandon'] as const;

// The longest that a timer can wait; also keeps fences and times far below the largest safe integer.
const longestMs = 2_147_483_647;

/** @throws TypeError naming the option that is wrong. */
export function settingsOf(options: IdempotencyOptions): Settings {
  const { store, leaseMs = 30_000, ttlMs = 86_400_000, waitMs = 0 } = options;
  const { onStoreError = 'closed', encryptionKeys, now = Date.now } = options;
  if (!operations.every((operation) => typeof store?.[operation] === 'function')) {
    throw new TypeError(`store: expected an IdempotencyStore, with ${operations.join(', ')}`);
  }
  assertInteger('leaseMs', leaseMs, 1);
  // What a crash leaves must be remembered for longer than its lease, or it would run again as if it were new.
  assertInteger('ttlMs', ttlMs, 2 * leaseMs);
  assertInteger('waitMs', waitMs, 0);
  if (onStoreError !== 'closed' && onStoreError !== 'open') {
    throw new TypeError("onStoreError: expected 'closed' or 'open'");
  }
  assertFunction('now', now);
  // An empty variable for a key is a mistake, and no wish to have nothing encrypted.
  const seal = encryptionKeys === undefined ? unsealed : sealWith(encryptionKeys);
  const heartbeat = new Heartbeat(Math.ceil(leaseMs / beatsPerLease));
  return { store, leaseMs, ttlMs, waitMs, onStoreError, seal, heartbeat, now };
}

/** A word that means nothing must not run anything a second time. @throws TypeError naming the option. */
export function assertOnUnknown(onUnknown: unknown): void {
  if (onUnknown !== 'refuse' && onUnknown !== 'rerun' && typeof onUnknown !== 'function') {
    throw new TypeError("onUnknown: expected 'refuse', 'rerun' or a function");
  }
}

/** @throws TypeError naming the option. */
export function assertInteger(option: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least || value > longestMs) {
    throw new TypeError(`${option}: expected a whole number from ${least} to ${longestMs}`);
  }
}

import type { Decision } from './decision.ts';
import type { OnStoreError } from './fallback.ts';
import type { LeaseOptions } from './lease.ts';
import type { Policy } from './policy.ts';
import type { PolicySetInput } from './policy-set.ts';
import type { RateLimitStore } from './store.ts';

export interface RateLimiterOptions<Name extends string> {
  readonly store: RateLimitStore;
  /** Sets of limits by name; a list of limits, or limits with options. */
  readonly policies: Readonly<Record<Name, PolicySetInput>>;
  /** What decides while the store cannot be asked. Default `closed`. */
  readonly onStoreError?: OnStoreError;
  /** How long the store may take, in milliseconds, before `onStoreError` decides. Default 100. */
  readonly timeoutMs?: number;
  /** How many processes share the limits; `onStoreError: 'local'` divides by it. Default 1. */
  readonly replicas?: number;
  /** Take tokens from the store in batches and serve from memory. Default: ask for each request. */
  readonly lease?: LeaseOptions;
  /** Other limits for this subject; `undefined`: the set's own. Return the same array for the same limits: it is compiled once. */
  readonly overrides?: (subject: string, policy: Name) => readonly Policy[] | undefined;
  /** Refuse this subject whatever its limits say. */
  readonly deny?: (subject: string) => boolean;
  /** Milliseconds; for what this process decides itself, not for the store. Default: a clock that never steps back. */
  readonly now?: () => number;
}

export interface CheckOptions<Name extends string> {
  /** Which set of limits; may be left out when there is only one. */
  readonly policy?: Name;
  /** An integer of at least 1; default 1. */
  readonly cost?: number;
}

export interface AcquireOptions<Name extends string> extends CheckOptions<Name> {
  readonly signal?: AbortSignal;
  /** Give up after this long, or at once when it would certainly take longer. Default 30,000. */
  readonly maxWaitMs?: number;
}

export interface SlotOptions<Name extends string> {
  readonly policy?: Name;
  /** `decision.slot` */
  readonly slot: number;
}

export interface SettleOptions<Name extends string> {
  readonly policy?: Name;
  /** What was charged. */
  readonly cost: number;
  /** What it turned out to be: an integer of at least 0; what is over 1e9 counts as 1e9. */
  readonly actualCost: number;
  /** `decision.slot`; default 0: none. */
  readonly slot?: number;
}

export interface RestrictOptions<Name extends string> {
  readonly policy?: Name;
  /** At most so many more; 0: none. */
  readonly remaining: number;
  /** For how long, in milliseconds: an integer from 1 to 86,400,000. */
  readonly durationMs: number;
}

/** A cost that was charged as an estimate. */
export interface Reservation extends Decision {
  /** Charges or gives back the difference, and releases the slot; once, later calls do nothing. */
  settle(actualCost: number): Promise<void>;
}

export interface RateLimiter<Name extends string = string> {
  /** Charges the cost to every limit of the set, or, when one of them refuses, to none. Never throws for a store that fails. */
  check(subject: string, options?: CheckOptions<Name>): Promise<Decision>;
  /** The same, at once; only with a store in this process. */
  checkSync(subject: string, options?: CheckOptions<Name>): Decision;
  /** Whether `checkSync` can be used. */
  readonly sync: boolean;
  /** What `check` would say, charging nothing. */
  peek(subject: string, options?: CheckOptions<Name>): Promise<Decision>;
  /** Charges an estimate now, the truth with `settle`. */
  reserve(subject: string, options?: CheckOptions<Name>): Promise<Reservation>;
  /** What `settle` of a reservation does, for who keeps the numbers rather than the reservation. Not idempotent. */
  settle(subject: string, options: SettleOptions<Name>): Promise<void>;
  /** Gives back a cost that was charged; never more than was. */
  refund(subject: string, options?: CheckOptions<Name>): Promise<void>;
  /** Forgets the subject under this set. */
  reset(subject: string, options?: Pick<CheckOptions<Name>, 'policy'>): Promise<void>;
  /** Gives a concurrency slot back. */
  release(subject: string, options: SlotOptions<Name>): Promise<void>;
  /** Leases a concurrency slot anew; `false` when its lease had ended. */
  renew(subject: string, options: SlotOptions<Name>): Promise<boolean>;
  /** Waits until `check` grants. Who has to wait is served in the order in which they came. */
  acquire(subject: string, options?: AcquireOptions<Name>): Promise<Decision>;
  /**
   * Lets the subject have at most `remaining` more for a while, in every process that shares the store. Of two restrictions the one
   * that leaves less holds, until its own end.
   */
  restrict(subject: string, options: RestrictOptions<Name>): Promise<void>;
  /**
   * Replaces the limits of a set; what was used carries over to limits of the same kind. Its counter and whether it is a shadow stay as
   * they were where nothing else is said.
   */
  setPolicies(policy: Name, limits: PolicySetInput): void;
  /** Closes the store. */
  close(): Promise<void>;
}

import type { Policy } from './policy.ts';

/**
 * - `take`: charge the cost if every policy grants it, else nothing.
 * - `peek`: say what `take` would, and charge nothing.
 * - `force`: charge the cost whatever the policies say.
 */
export type ConsumeMode = 'take' | 'peek' | 'force';

/** Where one policy stands after a check. */
export interface PolicyStatus {
  readonly name: string;
  readonly limit: number;
  readonly windowSeconds: number;
  /** It limits how many go on at the same time, not how many in a window. */
  readonly concurrent: boolean;
  /** What can still be had now. */
  readonly remaining: number;
  /** Until everything can be had again, if nothing else is charged; the end of a restriction counts. */
  readonly resetMs: number;
  /** Until this policy grants this cost; 0 when it does now; `Infinity` when it never can. Never less than the truth. */
  readonly retryAfterMs: number;
}

export interface StoreAnswer {
  /** Every policy grants the cost. */
  readonly granted: boolean;
  /** How much longer the subject is paused as a whole; 0 when it is not. */
  readonly pausedMs: number;
  /** In the order of the policies asked for. */
  readonly policies: readonly PolicyStatus[];
}

/** Whose state, and which. */
export interface StateKey {
  /** Sets of policies with the same counter share state. */
  readonly counter: string;
  readonly subject: string;
}

/**
 * Keeps what each subject has used. Every operation is atomic; for a store that several processes share, its own clock decides.
 * An error whose `code` is `ERR_STORE_FAILED` concerns its call alone; after any other error, repeated, the store is asked rarely.
 * After one whose `outcome` is `not-run` nothing was taken; after any other a slot is given back that may have been.
 * A store that answers without a promise is an in-process one and can be used by `checkSync`.
 */
export interface RateLimitStore {
  /** Whether every operation answers at once, without a promise. */
  readonly sync: boolean;
  /**
   * @param cost - an integer of at least 1; with `force` at most 1e9.
   * @param slot - the name of the slot that concurrency policies lease, an integer below 2^53; 0: none, because there are no such
   * policies or with `force`.
   * @param timeoutMs - give up after this long.
   */
  consume(
    counter: string,
    subject: string,
    policies: readonly Policy[],
    cost: number,
    mode: ConsumeMode,
    slot: number,
    timeoutMs: number,
  ): StoreAnswer | Promise<StoreAnswer>;
  /** Gives back what was charged, and the slot unless it is 0. Never more than was used. */
  give(
    key: StateKey,
    policies: readonly Policy[],
    cost: number,
    slot: number,
    timeoutMs: number,
  ): void | Promise<void>;
  /** Leases a slot anew; `false` when its lease has ended. */
  renew(
    key: StateKey,
    policies: readonly Policy[],
    slot: number,
    timeoutMs: number,
  ): boolean | Promise<boolean>;
  /**
   * Lets the subject have at most `remaining` more for the next `durationMs`, whatever its policies say. Of two restrictions the one
   * that leaves less holds, or the longer one of two that leave the same.
   * @param durationMs - at most a day.
   */
  restrict(
    key: StateKey,
    policies: readonly Policy[],
    remaining: number,
    durationMs: number,
    timeoutMs: number,
  ): void | Promise<void>;
  /** Forgets the subject. */
  reset(key: StateKey, timeoutMs: number): void | Promise<void>;
  close?(): void | Promise<void>;
}

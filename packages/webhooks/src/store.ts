/** What a {@link ReplayStore} says to a claim. */
export type Claim =
  /** The id is yours to process until the lease ends; `token` proves it. */
  | { readonly status: 'claimed'; readonly token: string }
  /** Somebody is processing it; its lease ends in `retryAfterMs` milliseconds, unless it is renewed. */
  | { readonly status: 'processing'; readonly retryAfterMs: number }
  /** It was processed. */
  | { readonly status: 'completed' };

/**
 * Remembers which webhooks were processed. Every operation is atomic. A claim whose lease ran out (its owner crashed)
 * can be claimed again; a completed id is refused until its time to live is over.
 */
export interface ReplayStore {
  claim(id: string, leaseMs: number): Promise<Claim>;
  /** Extends the lease; `false` when it ran out, and then nothing is extended. */
  renew(id: string, token: string, leaseMs: number): Promise<boolean>;
  /**
   * Marks the id as processed for `ttlMs`. Also after the lease ran out, as long as nobody else has claimed the id:
   * what was done stays done. `false` when somebody else has.
   */
  complete(id: string, token: string, ttlMs: number): Promise<boolean>;
  /** Gives the id back, so that the next delivery of it is processed; `false` when the claim was not held any more. */
  release(id: string, token: string): Promise<boolean>;
}

/** What {@link TokenStore.claim} is asked. */
export interface ClaimRequest {
  /** Names this claim, and no other: random. Asking again under the same name is asking once, and begins the lease anew. */
  readonly owner: string;
  /** How long the claim holds unless it is completed or released. */
  readonly leaseMs: number;
  /** The newest generation the caller knows of and wants replaced; 0 for none. */
  readonly generation: number;
  /**
   * Write down the intent to use a value that can be used only once. The intent outlives the lease: once it is there,
   * nobody else gets a claim until it is completed or released.
   */
  readonly journal?: boolean;
  /**
   * With `journal`: take over an intent that is younger than this, whose lease has ended; default 0, never. Released
   * without a replacement it is again what it was.
   */
  readonly takeOverWithinMs?: number;
}

/** What {@link TokenStore.claim} found. */
export type Claim =
  /** There is something newer than the caller knew, and the store keeps it for `remainingMs` more, by its own clock. */
  | {
      readonly status: 'current';
      readonly value: string;
      readonly generation: number;
      readonly remainingMs: number;
    }
  /** The caller, alone, may replace the value, which is there if there was one. */
  | { readonly status: 'claimed'; readonly value?: string; readonly generation: number }
  /** Somebody else is at it, for at most `remainingMs` more. */
  | { readonly status: 'held'; readonly remainingMs: number }
  /** Somebody was at it and left nothing but the intent. */
  | { readonly status: 'ambiguous'; readonly sinceMs: number }
  /** Somebody was at it and was refused. */
  | { readonly status: 'refused'; readonly reason: string; readonly remainingMs: number };

/**
 * Where processes share tokens. Every call is atomic; a call that cannot be made rejects. `value` is opaque here.
 * A store that other systems can read must encrypt it, bound to its key.
 */
export interface TokenStore {
  claim(key: string, request: ClaimRequest): Promise<Claim>;
  /**
   * Stores the replacement for `ttlMs` and ends the claim. Resolves with its generation, which is above `generation`,
   * or with undefined, having stored nothing, when the claim is no longer the caller's. Where nobody has one, as after
   * a loss of data, what replaces the newest there is (its generation is not above `generation`) is taken: it may be
   * the only one there is.
   */
  complete(
    key: string,
    completion: {
      readonly owner: string;
      readonly value: string;
      readonly ttlMs: number;
      readonly generation: number;
    },
  ): Promise<number | undefined>;
  /**
   * Ends the claim without a replacement, if it is still the caller's. A refusal is told to others for `ttlMs`. With
   * `keepIntent` only the lease ends: whether the value was used is not known.
   */
  release(
    key: string,
    release: {
      readonly owner: string;
      readonly refused?: { readonly reason: string; readonly ttlMs: number };
      readonly keepIntent?: boolean;
    },
  ): Promise<void>;
}

/** @throws TypeError when it lacks something: found out later, a refresh token might be used and not kept. */
export function assertStore(store: TokenStore): void {
  const calls = [store?.claim, store?.complete, store?.release];
  if (calls.every((call) => typeof call === 'function')) return;
  throw new TypeError('store must be a TokenStore, like memoryTokenStore()');
}

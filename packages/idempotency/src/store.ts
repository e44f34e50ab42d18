/** What somebody who wants to run a request asks for. */
export interface Claim {
  /** Names the record: a SHA-256 over principal, method, route and key. */
  readonly id: string;
  /** Names this one attempt: no two attempts ever share it. At most 32 characters of `A–Z a–z 0–9 _ -`. */
  readonly owner: string;
  /** A SHA-256 over the request: the same key must come with the same request. */
  readonly fingerprint: string;
  /** For how long the owner may be silent before its outcome counts as unknown. */
  readonly leaseMs: number;
  /** How long the record is kept after its last change. */
  readonly ttlMs: number;
}

/** A claim that was granted. */
export interface HeldClaim extends Claim {
  /** Greater than every fence given for this record before. A safe integer of milliseconds' magnitude. */
  readonly fence: number;
}

/** What `begin` found, and did. */
export type Begun =
  /** The caller runs the request. `recovered`: somebody ran it before and never said how it ended. */
  | { readonly state: 'acquired'; readonly fence: number; readonly recovered: boolean }
  /** Another owner runs it. */
  | { readonly state: 'processing' }
  /** Another owner ran it and never said how it ended. */
  | { readonly state: 'unknown'; readonly fence: number }
  /** It is done. An empty payload: it is done, and the store had no room for the payload. */
  | { readonly state: 'completed'; readonly payload: Uint8Array; readonly expiresInMs: number }
  /** The record belongs to a request with another fingerprint. */
  | { readonly state: 'mismatch' };

/**
 * Where the records are. Every operation is atomic, decides by the store's own clock, and either answers or rejects
 * within a bounded time; an error that carries `outcome: 'not-run'` certifies that nothing was changed, one whose `code` is
 * `ERR_IDEMPOTENCY_RECORD_UNREADABLE` that there is a record, which must not be run over. Each may arrive twice (a client
 * that lost the answer sends it again) and then says the same.
 *
 * A record is absent, `processing`, `unknown`, `completed` or `released`. A `processing` record whose lease is over is
 * `unknown` to everybody but its owner, who may still renew or settle it as long as nobody took it over.
 *
 * `renew`, `complete`, `release` and `abandon` return false, and change nothing, when the record is not the claim's:
 * somebody else took it over, or it was settled otherwise. When the record is absent (the store lost it), `renew`,
 * `complete` and `abandon` put it back: better the owner's word than a second execution.
 *
 * The suite in `@countersign/idempotency/store-contract` proves a store.
 */
export interface IdempotencyStore {
  /**
   * Takes the record when it is absent or released, or, with `takeover`, when it is unknown; otherwise says what it is.
   * A `fingerprint` other than the record's is a `mismatch`, except for a released record.
   */
  begin(claim: Claim, options: { readonly takeover: boolean }): Promise<Begun>;
  /** Extends the lease to `leaseMs` from now. */
  renew(claim: HeldClaim): Promise<boolean>;
  /** The outcome, kept for `ttlMs` from now. */
  complete(claim: HeldClaim, payload: Uint8Array): Promise<boolean>;
  /**
   * The request was not executed: the record is free again, or unknown again if it was taken over. Its fence is
   * remembered for at least `leaseMs`. An owner that never got the answer of `begin` releases with fence 0: the record's
   * own fence is the one to remember.
   */
  release(claim: HeldClaim): Promise<boolean>;
  /** The owner gives up without knowing the outcome: the record is unknown at once. */
  abandon(claim: HeldClaim): Promise<boolean>;
}

/**
 * - `ERR_RATE_LIMIT_SUBJECT`: the subject is no string, or an empty one: everybody would share one limit.
 * - `ERR_RATE_LIMIT_POLICY`: no policy has that name.
 * - `ERR_RATE_LIMIT_COST`: the cost is no integer of at least 1.
 * - `ERR_RATE_LIMIT_IMPOSSIBLE`: `acquire` was asked for more than a policy can ever grant.
 * - `ERR_RATE_LIMIT_WAIT`: `acquire` would have to wait longer than it may.
 * - `ERR_RATE_LIMIT_DENIED`: `acquire` was asked for a subject on the deny list.
 * - `ERR_RATE_LIMIT_STORE`: `peek`, `refund`, `reset`, `release`, `renew`, `settle` or `restrict`: the store did not do it, or did not
 *   say so.
 */
export type RateLimitErrorCode =
  | 'ERR_RATE_LIMIT_SUBJECT'
  | 'ERR_RATE_LIMIT_POLICY'
  | 'ERR_RATE_LIMIT_COST'
  | 'ERR_RATE_LIMIT_IMPOSSIBLE'
  | 'ERR_RATE_LIMIT_WAIT'
  | 'ERR_RATE_LIMIT_DENIED'
  | 'ERR_RATE_LIMIT_STORE';

export interface RateLimitErrorOptions extends ErrorOptions {
  readonly retryAfterMs?: number;
}

export class RateLimitError extends Error {
  override readonly name = 'RateLimitError';
  readonly code: RateLimitErrorCode;
  /** Milliseconds until another attempt can succeed, where that is known. */
  readonly retryAfterMs: number | undefined;

  constructor(code: RateLimitErrorCode, message: string, options: RateLimitErrorOptions = {}) {
    super(message, options);
    this.code = code;
    this.retryAfterMs = options.retryAfterMs;
  }
}

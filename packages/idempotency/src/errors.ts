/** What went wrong. The README explains every code. */
export type IdempotencyErrorCode =
  | 'ERR_IDEMPOTENCY_KEY_MISSING'
  | 'ERR_IDEMPOTENCY_KEY_MALFORMED'
  | 'ERR_IDEMPOTENCY_KEY_REUSED'
  | 'ERR_IDEMPOTENCY_PRINCIPAL_MISSING'
  | 'ERR_IDEMPOTENCY_IN_PROGRESS'
  | 'ERR_IDEMPOTENCY_OUTCOME_UNKNOWN'
  | 'ERR_IDEMPOTENCY_RESULT_NOT_STORED'
  | 'ERR_IDEMPOTENCY_STREAM_REFUSED'
  | 'ERR_IDEMPOTENCY_LEASE_LOST'
  | 'ERR_IDEMPOTENCY_STORE_UNAVAILABLE'
  | 'ERR_IDEMPOTENCY_STORE_FULL'
  | 'ERR_IDEMPOTENCY_RECORD_UNREADABLE';

/** Every error of this package that is not a programmer's mistake. Messages never contain keys or bodies. */
export class IdempotencyError extends Error {
  override readonly name = 'IdempotencyError';
  readonly code: IdempotencyErrorCode;

  constructor(code: IdempotencyErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

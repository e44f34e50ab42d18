/** What can go wrong at run time in this package. */
export type RetryErrorCode = 'ERR_RETRY_DEADLINE_EXCEEDED';

/** The reason with which a deadline's signal aborts. */
export class RetryError extends Error {
  override readonly name = 'RetryError';
  readonly code: RetryErrorCode;

  constructor(code: RetryErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

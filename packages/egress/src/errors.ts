/** What can go wrong at run time in this package. */
export type EgressErrorCode = 'ERR_EGRESS_DENIED' | 'ERR_EGRESS_RESPONSE_TOO_LARGE';

/**
 * A request that may not leave, or a response that is larger than it may be. Neither gets better by trying again.
 * The message names the origin and the address, never the path or the query.
 */
export class EgressError extends Error {
  override readonly name = 'EgressError';
  readonly code: EgressErrorCode;

  constructor(code: EgressErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

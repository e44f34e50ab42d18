export type GuardErrorCode =
  | 'ERR_GUARD_BODY_TOO_LARGE'
  | 'ERR_GUARD_BODY_CONSUMED'
  | 'ERR_GUARD_BODY_ABORTED'
  | 'ERR_GUARD_INVALID_VERDICT'
  | 'ERR_GUARD_UNSUPPORTED_SERVER';

/** What this package could not do, and why: `code` tells the cases apart. */
export class GuardError extends Error {
  override readonly name = 'GuardError';
  readonly code: GuardErrorCode;

  constructor(code: GuardErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

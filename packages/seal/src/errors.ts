/**
 * - `ERR_SEAL_NOT_SEALED`: the bytes were never sealed, or are cut short.
 * - `ERR_SEAL_UNKNOWN_KEY`: sealed with a key that is not among those given.
 * - `ERR_SEAL_ALTERED`: changed since, or sealed under another name.
 * - `ERR_SEAL_KEY_UNAVAILABLE`: a key could not be got, or is none; `cause` says why.
 */
export type SealErrorCode =
  | 'ERR_SEAL_NOT_SEALED'
  | 'ERR_SEAL_UNKNOWN_KEY'
  | 'ERR_SEAL_ALTERED'
  | 'ERR_SEAL_KEY_UNAVAILABLE';

/** Why something could not be sealed or opened. Neither message nor properties hold keys, names or what was sealed. */
export class SealError extends Error {
  override readonly name = 'SealError';
  readonly code: SealErrorCode;

  constructor(code: SealErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

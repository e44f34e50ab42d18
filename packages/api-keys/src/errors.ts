/** Why an operation on keys was refused. `verify` never throws: its answers are in `VerifyResult`. */
export type ApiKeysErrorCode =
  | 'ERR_API_KEYS_INVALID'
  | 'ERR_API_KEYS_LIFETIME'
  | 'ERR_API_KEYS_NOT_FOUND'
  | 'ERR_API_KEYS_REVOKED'
  | 'ERR_API_KEYS_EXPIRED'
  | 'ERR_API_KEYS_ALREADY_ROTATED'
  | 'ERR_API_KEYS_ALREADY_EXISTS'
  | 'ERR_API_KEYS_STORE_FULL'
  | 'ERR_API_KEYS_CORRUPT_RECORD'
  | 'ERR_API_KEYS_REPORT_SIGNATURE'
  | 'ERR_API_KEYS_REPORT_MALFORMED'
  | 'ERR_API_KEYS_REPORT_KEYS';

/** Thrown by this package for bad data and refused operations. A mistake at construction is a `TypeError`. */
export class ApiKeysError extends Error {
  override readonly name = 'ApiKeysError';
  readonly code: ApiKeysErrorCode;

  constructor(code: ApiKeysErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

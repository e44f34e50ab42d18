/** Why a token, or a request carrying one, was refused. Each code is explained in the README. */
export type JwtErrorCode =
  | 'ERR_JWT_TOO_LARGE'
  | 'ERR_JWT_MALFORMED'
  | 'ERR_JWT_ENCODING'
  | 'ERR_JWT_JSON'
  | 'ERR_JWT_DUPLICATE_MEMBER'
  | 'ERR_JWT_ENCRYPTED'
  | 'ERR_JWT_HEADER'
  | 'ERR_JWT_ALGORITHM'
  | 'ERR_JWT_TYPE'
  | 'ERR_JWT_CRITICAL_HEADER'
  | 'ERR_JWT_EMBEDDED_KEY'
  | 'ERR_JWT_ISSUER'
  | 'ERR_JWT_AUDIENCE'
  | 'ERR_JWT_KEY_UNKNOWN'
  | 'ERR_JWT_KEY_AMBIGUOUS'
  | 'ERR_JWT_KEYS_UNAVAILABLE'
  | 'ERR_JWT_SIGNATURE'
  | 'ERR_JWT_CLAIM_MISSING'
  | 'ERR_JWT_CLAIM_INVALID'
  | 'ERR_JWT_EXPIRED'
  | 'ERR_JWT_NOT_YET_VALID'
  | 'ERR_JWT_ISSUED_IN_FUTURE'
  | 'ERR_JWT_LIFETIME'
  | 'ERR_JWT_REVOKED'
  | 'ERR_JWT_DENYLIST_UNAVAILABLE'
  | 'ERR_JWT_DENYLIST_FULL'
  | 'ERR_JWT_BOUND'
  | 'ERR_JWT_CERTIFICATE'
  | 'ERR_JWT_DPOP_PROOF'
  | 'ERR_JWT_DPOP_NONCE'
  | 'ERR_JWT_DPOP_REPLAYED'
  | 'ERR_JWT_DPOP_BINDING'
  | 'ERR_JWT_REPLAY_STORE_UNAVAILABLE'
  | 'ERR_JWT_SCOPE'
  | 'ERR_JWT_REQUEST'
  | 'ERR_JWT_CLOCK';

export interface JwtErrorOptions extends ErrorOptions {
  /** The claim or header parameter at fault: always a name this library or its user wrote, never one from the token. */
  readonly member?: string;
}

/** A refusal. Neither its message nor its properties ever hold the token or a part of it. */
export class JwtError extends Error {
  override readonly name = 'JwtError';
  readonly code: JwtErrorCode;
  declare readonly member?: string;

  constructor(code: JwtErrorCode, message: string, options?: JwtErrorOptions) {
    super(message, options);
    this.code = code;
    if (options?.member !== undefined) this.member = options.member;
  }
}

/** What can go wrong when tokens are obtained, renewed, revoked or introspected. */
export type OAuthErrorCode =
  | 'ERR_OAUTH_INSECURE_URL'
  | 'ERR_OAUTH_METADATA'
  | 'ERR_OAUTH_CREDENTIAL'
  | 'ERR_OAUTH_NETWORK'
  | 'ERR_OAUTH_TIMEOUT'
  | 'ERR_OAUTH_UNAVAILABLE'
  | 'ERR_OAUTH_REDIRECT'
  | 'ERR_OAUTH_RESPONSE'
  | 'ERR_OAUTH_RESPONSE_TOO_LARGE'
  | 'ERR_OAUTH_REFUSED'
  | 'ERR_OAUTH_DPOP'
  | 'ERR_OAUTH_STORE'
  | 'ERR_OAUTH_ROTATION_AMBIGUOUS'
  | 'ERR_OAUTH_CALLBACK';

export interface OAuthErrorOptions extends ErrorOptions {
  readonly status?: number;
  readonly error?: string;
  readonly retryAfterMs?: number;
}

/** Never carries a token, a secret or a request's form. */
export class OAuthError extends Error {
  override readonly name = 'OAuthError';
  readonly code: OAuthErrorCode;
  /** The HTTP status, where there was a response. */
  declare readonly status?: number;
  /** The `error` of the server's response (RFC 6749 §5.2), e.g. `invalid_client`. */
  declare readonly error?: string;
  /** How long the server asked to be left alone, in milliseconds. */
  declare readonly retryAfterMs?: number;

  constructor(code: OAuthErrorCode, message: string, options: OAuthErrorOptions = {}) {
    const { status, error, retryAfterMs, ...rest } = options;
    super(message, rest);
    this.code = code;
    if (status !== undefined) this.status = status;
    if (error !== undefined) this.error = error;
    if (retryAfterMs !== undefined) this.retryAfterMs = retryAfterMs;
  }
}

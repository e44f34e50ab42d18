import type { AccessToken } from './access-token.ts';

/** What a caller may ask of a {@link TokenSource}. Each combination of scope and resource has a token of its own. */
export interface TokenRequest {
  /** Space separated; the order does not matter. Default: the source's own. */
  readonly scope?: string;
  /** The resource server(s) the token is for (RFC 8707). Default: the source's own. */
  readonly resource?: string | readonly string[];
  /** Ends this caller's wait, and nobody else's. */
  readonly signal?: AbortSignal;
  /**
   * `true`: a token newer than any seen here. A number: newer than this generation, so that many callers whom the
   * same token failed cause one renewal.
   */
  readonly forceRenewal?: boolean | number;
}

/** Where access tokens come from. */
export interface TokenSource {
  /** @throws OAuthError when there is no valid token and none can be had. */
  getToken(request?: TokenRequest): Promise<AccessToken>;
}

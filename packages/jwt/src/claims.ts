/** What every accepted token holds (RFC 7519 §4.1): the five claims that are always required. */
export interface GenericClaims {
  readonly iss: string;
  readonly sub: string;
  readonly aud: string | readonly string[];
  /** Seconds since 1970. */
  readonly exp: number;
  /** Seconds since 1970. */
  readonly iat: number;
  /** Seconds since 1970. */
  readonly nbf?: number;
  readonly jti?: string;
  readonly client_id?: string;
  readonly scope?: string;
  /** How the token is bound to its holder (RFC 7800). The verifier has checked it. */
  readonly cnf?: Confirmation;
  readonly [claim: string]: unknown;
}

/** What an accepted access token in the JWT profile (RFC 9068 §2.2) holds. */
export interface AccessTokenClaims extends GenericClaims {
  readonly client_id: string;
  readonly jti: string;
}

/** The confirmation methods this library can check; a token with any other is refused. */
export interface Confirmation {
  /** SHA-256 thumbprint of the DPoP key (RFC 9449 §6.1). */
  readonly jkt?: string;
  /** SHA-256 thumbprint of the client's certificate (RFC 8705 §3.1). */
  readonly 'x5t#S256'?: string;
}

/** The header of an accepted token. */
export interface TokenHeader {
  readonly alg: string;
  readonly typ?: string;
  readonly kid?: string;
  readonly [parameter: string]: unknown;
}

/** An accepted token. Deeply frozen: the cache hands the same one to every caller. */
export interface VerifiedToken<C extends GenericClaims = AccessTokenClaims> {
  readonly claims: C;
  readonly header: TokenHeader;
}

import type { DpopKey, DpopRequest } from './dpop.ts';

export type TokenType = 'Bearer' | 'DPoP';

/** What is known about an access token. */
export interface AccessTokenParts {
  readonly value: string;
  readonly type: TokenType;
  readonly expiresAtMs: number;
  readonly scope: string;
  readonly generation: number;
  /** The key a DPoP token is bound to. */
  readonly dpop?: DpopKey;
}

/** An access token. Its value shows only where it is asked for: not in `inspect`, JSON, a spread or a clone. */
export class AccessToken {
  readonly #value: string;
  readonly #dpop: DpopKey | undefined;
  readonly type: TokenType;
  /** Milliseconds since the epoch, by this machine's clock. */
  readonly expiresAtMs: number;
  /** Space separated: what was granted; what was asked for, where the server did not say. */
  readonly scope: string;
  /** Grows with every renewal, across processes too where they share a store. */
  readonly generation: number;

  constructor(parts: AccessTokenParts) {
    this.#value = parts.value;
    this.#dpop = parts.dpop;
    this.type = parts.type;
    this.expiresAtMs = parts.expiresAtMs;
    this.scope = parts.scope;
    this.generation = parts.generation;
  }

  get value(): string {
    return this.#value;
  }

  /**
   * The proof that goes beside this token on one request (RFC 9449 §7); a fresh one for every attempt.
   * `undefined` for a Bearer token, which needs none.
   */
  async proof(request: Omit<DpopRequest, 'accessToken'>): Promise<string | undefined> {
    return this.#dpop?.proof({ ...request, accessToken: this.#value });
  }
}

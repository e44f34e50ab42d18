/** The header fields of a request. Names are matched without regard to case (RFC 9110 §5.1). */
export interface RequestHeaders {
  /** The field's value; `undefined` when absent. Several field lines are joined by `", "` (RFC 9110 §5.3). */
  get(name: string): string | undefined;
  /** Each field line's value in the order received: duplicates stay visible. Empty when absent. */
  all(name: string): readonly string[];
}

/** What a guard sees of a request, whatever framework received it. */
export interface GuardRequest {
  /** Upper case. */
  readonly method: string;
  /** The path as received (still percent-encoded), without the query. */
  readonly path: string;
  /** Parsed on first use. */
  readonly query: URLSearchParams;
  /** The query as received, with its `?`; empty for none. Every adapter here knows it; one of your own may not. */
  readonly search?: string | undefined;
  /** The matched pattern (`/payments/:id`), where the framework knows it. */
  readonly route?: string;
  readonly headers: RequestHeaders;
  /** The peer's address, after the trusted-proxy rule. */
  readonly remoteAddress: string;
  /** Whether the caller's connection is TLS, after the trusted-proxy rule. */
  readonly secure: boolean;
  /** Whether a proxy that is trusted sent the request, so that what it says about it counts. Absent: no. */
  readonly viaTrustedProxy?: boolean;
  /** Aborts when the caller goes away. */
  readonly signal: AbortSignal;
  /**
   * The exact bytes of the body, bounded by the adapter's `maxBodyBytes`. Repeated calls return the same bytes.
   * @param maxBytes - a narrower bound: a larger body is refused as soon as it shows, and stays so for whoever asks later.
   * What is no number of bytes (`NaN`) rejects with a TypeError.
   */
  rawBody(maxBytes?: number): Promise<Uint8Array>;
}

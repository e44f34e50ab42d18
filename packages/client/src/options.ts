import type { EgressAgentOptions } from '@countersign/egress';
import type { BackoffOptions, RetryBudget, RetryBudgetOptions } from '@countersign/retry';
import type { Dispatcher } from 'undici';
import type { RequestBody } from './body.ts';
import type { BreakerOptions } from './breaker.ts';
import type { ConcurrencyOptions } from './concurrency.ts';
import type { IdempotencyOptions } from './idempotency-key.ts';
import type { ReadAs } from './response.ts';
import type { StandardSchema } from './standard-schema.ts';
import type { JournalStore } from './store.ts';

/** How calls are tried again. */
export interface RetryOptions extends Partial<BackoffOptions> {
  /** Attempts in all, the first included. Default 4. */
  readonly maxAttempts?: number;
}

/** Options of `createClient`. `false` switches a policy off. */
export interface ClientOptions {
  /** Scheme, host and port of the server. */
  readonly origin: string;
  /** undici interceptors, in the order in which a request passes them: identity, then pacing. Run for each attempt. */
  readonly interceptors?: readonly Dispatcher.DispatcherComposeInterceptor[];
  /** For the whole call, in milliseconds, up to 2,147,483,647. Default 30,000. */
  readonly deadlineMs?: number;
  /** For each attempt, in milliseconds. Default 10,000. */
  readonly attemptTimeoutMs?: number;
  /** Default: 4 attempts, full jitter from 100 ms to 10 s. */
  readonly retry?: RetryOptions | false;
  /**
   * Default: 0.2 retries per call and 1 per second, and of the latter no more than 10 until a call succeeds. A budget of
   * your own can be shared between clients.
   */
  readonly budget?: RetryBudgetOptions | RetryBudget | false;
  /** Default: opens at 50 % failures of at least 20 attempts in 10 s, for 5 s. */
  readonly breaker?: BreakerOptions | false;
  /** Default: 100 calls at a time, 1,000 waiting. */
  readonly concurrency?: ConcurrencyOptions | false;
  /** Sends a second attempt of a GET, HEAD or OPTIONS when there is no answer after so long. Default: never. */
  readonly hedge?: { readonly afterMs: number };
  /** How many redirects a call follows, by `client.fetch` too. Default 0: a redirect is returned as it is. */
  readonly maxRedirects?: number;
  /** Where calls with a key are written down before they are sent, so that `recover()` can finish them after a crash. */
  readonly journal?: JournalStore;
  /** Options of the egress agent, or a dispatcher of your own (undici's `MockAgent` in tests) that is not closed with the client. */
  readonly egress?: EgressAgentOptions | Dispatcher;
  /** The largest response body, on the wire and after decompression, in bytes. Default 10 MiB (10,485,760). */
  readonly maxResponseBytes?: number;
  /** How much is kept of an error's body, on the wire and after decompression, in bytes. Default 64 KiB (65,536). */
  readonly maxErrorBytes?: number;
  /** Which calls are given an `Idempotency-Key`, and how it is written. */
  readonly idempotency?: IdempotencyOptions;
  /** Sent with every request. Names are not case-sensitive. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The header that tells the callee how many milliseconds are left. Default `request-timeout-ms`. */
  readonly deadlineHeader?: string | false;
  /** Whether a `traceparent` is made where the caller gives none. Default true; switch it off where OpenTelemetry does it. */
  readonly traceparent?: boolean;
  /** The wall clock in milliseconds, for dates in `Retry-After` and the journal. Default `Date.now`. */
  readonly now?: () => number;
}

/** Options of one call. */
export interface RequestOptions<T = unknown> {
  /** Sent as `application/json`. */
  readonly json?: unknown;
  /**
   * Any other body. Bytes are copied. A stream is sent once and never again; a function that makes one is called for each
   * attempt, and must give the same bytes each time.
   */
  readonly body?: RequestBody;
  readonly headers?: Readonly<Record<string, string>>;
  /** Appended to the path. */
  readonly query?: URLSearchParams | Readonly<Record<string, string | number | boolean>>;
  /** A Standard Schema (zod, valibot, arktype …) for the body of a success; it types and checks the result. */
  readonly schema?: StandardSchema<T>;
  /** How a success's body is read. Default `auto`: by its media type. */
  readonly as?: ReadAs;
  /**
   * A key of your own; it makes a call of any method repeatable. So does an `Idempotency-Key` among `headers`, which is
   * sent as it is written there.
   */
  readonly idempotencyKey?: string;
  readonly signal?: AbortSignal;
  /** Overrides the client's. */
  readonly deadlineMs?: number;
}

import type { ResponseHeaders } from './headers.ts';

/** What can go wrong with a call. */
export type ClientErrorCode =
  | 'ERR_CLIENT_PROBLEM'
  | 'ERR_CLIENT_STATUS'
  | 'ERR_CLIENT_NETWORK'
  | 'ERR_CLIENT_ATTEMPT_TIMEOUT'
  | 'ERR_CLIENT_DEADLINE_EXCEEDED'
  | 'ERR_CLIENT_ABORTED'
  | 'ERR_CLIENT_BREAKER_OPEN'
  | 'ERR_CLIENT_QUEUE_FULL'
  | 'ERR_CLIENT_NOT_SENT'
  | 'ERR_CLIENT_RESPONSE_TOO_LARGE'
  | 'ERR_CLIENT_INVALID_RESPONSE'
  | 'ERR_CLIENT_SCHEMA'
  | 'ERR_CLIENT_REDIRECT'
  | 'ERR_CLIENT_CLOSED'
  | 'ERR_CLIENT_JOURNAL';

/** Why a call was not tried again. */
export type StopReason =
  /** Trying again would not change the outcome. */
  | 'final'
  /** The method is not idempotent and there is no Idempotency-Key, or the body can be sent only once. */
  | 'not_repeatable'
  /** All attempts were made. */
  | 'attempts_exhausted'
  /** The origin's retry budget was empty. */
  | 'budget_exhausted'
  /** The origin's circuit breaker opened. */
  | 'breaker_open'
  /** The next attempt, or the wait that the server asked for, would not fit into the deadline. */
  | 'deadline'
  /** The server said not to. */
  | 'refused_by_server';

/** A problem document (RFC 9457). */
export interface Problem {
  readonly type?: string;
  readonly title?: string;
  readonly status?: number;
  readonly detail?: string;
  readonly instance?: string;
  readonly [extension: string]: unknown;
}

/** What is known about a call that failed. */
export interface ClientErrorDetails {
  readonly status?: number;
  readonly headers?: ResponseHeaders;
  readonly body?: unknown;
  readonly bodyTruncated?: boolean;
  readonly problem?: Problem;
  readonly issues?: readonly SchemaIssue[];
  readonly retryAfterMs?: number;
  readonly attempts?: number;
  readonly idempotencyKey?: string;
  readonly stopped?: StopReason;
  readonly budgetBalance?: number;
}

/** One reason why a body did not match its schema. */
export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** A call that did not end with an acceptable response. */
export class ClientError extends Error {
  override readonly name = 'ClientError';
  readonly code: ClientErrorCode;
  /** The status of the last response, if there was one. */
  declare readonly status?: number;
  /** The response's headers. Not enumerable: they stay out of logs. */
  declare readonly headers?: ResponseHeaders;
  /** The response's body, parsed as the body of a success would be. Not enumerable: it stays out of logs. */
  declare readonly body?: unknown;
  /** The body was longer than is kept of an error. */
  declare readonly bodyTruncated?: boolean;
  /** The problem document, with `ERR_CLIENT_PROBLEM`. Not enumerable. */
  declare readonly problem?: Problem;
  /** What the schema objected to, with `ERR_CLIENT_SCHEMA`. */
  declare readonly issues?: readonly SchemaIssue[];
  /** How long the server asked to wait, in milliseconds. */
  declare readonly retryAfterMs?: number;
  /** Attempts that were made. */
  declare readonly attempts?: number;
  /** The key under which the call can be asked for again. */
  declare readonly idempotencyKey?: string;
  /** Why there was no further attempt. */
  declare readonly stopped?: StopReason;
  /** Retries that the origin's budget had left. */
  declare readonly budgetBalance?: number;

  constructor(
    code: ClientErrorCode,
    message: string,
    details: ClientErrorDetails = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.code = code;
    const { headers, body, problem, ...visible } = details;
    Object.assign(this, visible);
    for (const [name, value] of Object.entries({ headers, body, problem })) {
      if (value !== undefined) Object.defineProperty(this, name, { value });
    }
  }
}

import { parseRetryAfter } from '@countersign/retry';
import type { StopReason } from './errors.ts';
import { isAnswer, type Outcome } from './exchange.ts';
import type { ResponseHeaders } from './headers.ts';

/** What an outcome asks for. */
export type Advice =
  | { readonly repeat: true; readonly retryAfterMs: number | undefined }
  | {
      readonly repeat: false;
      readonly why: StopReason;
      readonly retryAfterMs: number | undefined;
    };

const RETRIED_STATUSES: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504]);

// The connection could not be made, broke, or delivered something that is not HTTP. What is not here (a certificate
// that does not verify, a request that undici refuses, an interceptor that failed) is the same next time.
const RETRIED_ERRORS: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_SOCKET',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'UND_ERR_RES_CONTENT_LENGTH_MISMATCH',
  // HTTP/2: what became of the stream, or of the connection; undici's own word for the latter says no more.
  'ERR_HTTP2_STREAM_ERROR',
  'ERR_HTTP2_STREAM_CANCEL',
  'ERR_HTTP2_SESSION_ERROR',
  'ERR_HTTP2_GOAWAY_SESSION',
  'UND_ERR_INFO',
  // Of the interceptor that limits attempts.
  'ERR_CLIENT_ATTEMPT_TIMEOUT',
]);

/** Whether an error is one of the network rather than of the request. */
export function isNetworkError(error: unknown): boolean {
  const { code, errors, name } = error as { code?: unknown; errors?: unknown; name?: unknown };
  // What came back is not HTTP. undici gives these no code.
  if (name === 'HTTPParserError') return true;
  if (typeof code === 'string' && RETRIED_ERRORS.has(code)) return true;
  // Node.js tries every address of a name; it reports one error for each.
  return Array.isArray(errors) && errors.length > 0 && errors.every(isNetworkError);
}

/** Whether a status says that the origin itself is not in trouble. */
export function isOriginWell(status: number): boolean {
  return status < 500 || status === 501;
}

/** Whether an attempt says that the origin is in trouble; `undefined` when it says nothing about it. */
export function originSucceeded(outcome: Outcome): boolean | undefined {
  if (isAnswer(outcome)) return isOriginWell(outcome.status);
  if (outcome.kind === 'timeout') return false;
  if (outcome.kind === 'error' && isNetworkError(outcome.error)) return false;
  return undefined;
}

/** Whether the origin does its work: what it answers is not that somebody should try again. */
export function isAtWork(outcome: Outcome): boolean {
  return isAnswer(outcome) && outcome.status < 500 && !RETRIED_STATUSES.has(outcome.status);
}

/** What an outcome asks for, whoever may repeat it. */
export function advise(outcome: Outcome, nowMs: number): Advice {
  if (!isAnswer(outcome)) {
    // Its timer may be early by a part of a millisecond, in which nothing can be done.
    if (outcome.byDeadline) return { repeat: false, why: 'deadline', retryAfterMs: undefined };
    const repeat =
      outcome.kind === 'timeout' || (outcome.kind === 'error' && isNetworkError(outcome.error));
    return repeat
      ? { repeat, retryAfterMs: undefined }
      : { repeat, why: 'final', retryAfterMs: undefined };
  }
  const { status, headers } = outcome;
  if (status < 400) return { repeat: false, why: 'final', retryAfterMs: undefined };
  // A field that is there several times is a list; of its values the longest wait keeps them all.
  const retryAfterMs = parseRetryAfter([headers['retry-after']].flat().join(), nowMs);
  // 409 with Retry-After: the first attempt is still being worked on; its answer will be replayed.
  const repeat = RETRIED_STATUSES.has(status) || (status === 409 && retryAfterMs !== undefined);
  if (!repeat) return { repeat, why: 'final', retryAfterMs };
  if (forbidsRetry(headers)) return { repeat: false, why: 'refused_by_server', retryAfterMs };
  return { repeat, retryAfterMs };
}

/**
 * How long to wait before the next attempt, or `undefined` when it would not begin before the deadline. Never shorter
 * than the server asked for; the jitter goes on top, so that all who were told the same do not come at the same moment.
 */
export function waitBefore(
  backoffMs: number,
  retryAfterMs: number | undefined,
  remainingMs: number,
): number | undefined {
  if (retryAfterMs === undefined) return backoffMs < remainingMs ? backoffMs : undefined;
  if (retryAfterMs >= remainingMs) return undefined;
  return retryAfterMs + backoffMs < remainingMs ? retryAfterMs + backoffMs : retryAfterMs;
}

/** Stripe's and others' way to say that trying again is no use. */
function forbidsRetry(headers: ResponseHeaders): boolean {
  return [headers['stripe-should-retry'], headers['x-should-retry']].includes('false');
}

/** A field that must not be repeated: several are as good as none. */
export function single(headers: ResponseHeaders, name: string): string | undefined {
  const value = headers[name];
  return typeof value === 'string' ? value : undefined;
}

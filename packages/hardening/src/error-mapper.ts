import type { Failure, Guard, Reply } from '@countersign/guard';
import { HardeningError } from './errors.ts';
import { publish } from './events.ts';
import { assertFunction, assertKnown } from './options.ts';
import { problem } from './problem.ts';

/** What a caller is told of an error, as a problem (RFC 9457). */
export interface MappedError {
  /** 400 to 599. */
  readonly status: number;
  /** A URI reference. Default `about:blank`. */
  readonly type?: string;
  /** Default the status's own phrase. */
  readonly title?: string;
  /** For whoever reads it: never a secret, never an internal. */
  readonly detail?: string;
  /** Further members, such as `code`. */
  readonly [extension: string]: unknown;
}

/** What `errorMapper` takes. `In` is what the guards before it found out. */
export interface ErrorMapperOptions<In> {
  /** What the caller is told of an error of yours; undefined for every other. One that throws is as one that knows none; what JSON cannot say is a 500. */
  readonly map?: (error: unknown) => MappedError | undefined;
  /** The id of the request, from what the guards before this one found out: it becomes the problem's `requestId`. */
  readonly requestId?: (context: In) => string;
}

/** What the caller may learn of errors that packages of this project throw: whose fault it is, and whether to come back. */
const statuses: Readonly<Record<string, number>> = {
  ERR_GUARD_BODY_ABORTED: 400,
  ERR_GUARD_BODY_TOO_LARGE: 413,
  ERR_HARDENING_INPUT_INVALID: 400,
  ERR_HARDENING_INPUT_MALFORMED: 400,
  ERR_HARDENING_INPUT_MEDIA_TYPE: 415,
  ERR_HARDENING_INPUT_TOO_DEEP: 400,
  ERR_HARDENING_INPUT_TOO_LARGE: 413,
  ERR_HARDENING_INPUT_TOO_MANY_KEYS: 400,
  ERR_IDEMPOTENCY_IN_PROGRESS: 409,
  ERR_IDEMPOTENCY_KEY_MALFORMED: 400,
  ERR_IDEMPOTENCY_KEY_MISSING: 400,
  ERR_IDEMPOTENCY_KEY_REUSED: 422,
  ERR_RATE_LIMIT_DENIED: 429,
  // A store of ours, or keys, out of reach.
  ERR_API_KEYS_STORE_FULL: 503,
  ERR_IDEMPOTENCY_STORE_FULL: 503,
  ERR_IDEMPOTENCY_STORE_UNAVAILABLE: 503,
  ERR_JWT_DENYLIST_UNAVAILABLE: 503,
  ERR_JWT_KEYS_UNAVAILABLE: 503,
  ERR_JWT_REPLAY_STORE_UNAVAILABLE: 503,
  ERR_OAUTH_STORE: 503,
  ERR_RATE_LIMIT_STORE: 503,
  ERR_RATE_LIMIT_WAIT: 503,
  ERR_STORE_TIMEOUT: 503,
  ERR_STORE_UNAVAILABLE: 503,
  ERR_WEBHOOKS_STORE_FAILED: 503,
  // A service that was called. Its status is not ours: that it refused us (401) says nothing about the caller.
  ERR_CLIENT_ATTEMPT_TIMEOUT: 504,
  ERR_CLIENT_BREAKER_OPEN: 503,
  ERR_CLIENT_DEADLINE_EXCEEDED: 504,
  ERR_CLIENT_INVALID_RESPONSE: 502,
  ERR_CLIENT_NETWORK: 502,
  ERR_CLIENT_PROBLEM: 502,
  ERR_CLIENT_QUEUE_FULL: 503,
  ERR_CLIENT_REDIRECT: 502,
  ERR_CLIENT_RESPONSE_TOO_LARGE: 502,
  ERR_CLIENT_SCHEMA: 502,
  ERR_CLIENT_STATUS: 502,
  ERR_EGRESS_RESPONSE_TOO_LARGE: 502,
  ERR_OAUTH_NETWORK: 502,
  ERR_OAUTH_REFUSED: 502,
  ERR_OAUTH_RESPONSE: 502,
  ERR_OAUTH_RESPONSE_TOO_LARGE: 502,
  ERR_OAUTH_TIMEOUT: 504,
  ERR_OAUTH_UNAVAILABLE: 502,
  ERR_RETRY_DEADLINE_EXCEEDED: 504,
};

/**
 * A guard that decides what callers are told when a request fails behind it, on every adapter: a problem with the status and the request's id, and
 * nothing of what was thrown. Errors of this project's packages get the status that is the caller's business (400, 409, 429, 502, 503 …), those that `map`
 * knows what it says, all others a 500; what the framework answers by itself (404, malformed JSON) keeps its status.
 * @throws TypeError for an unknown option, and one that is no function.
 */
export function errorMapper<In = object>(
  options: ErrorMapperOptions<In> = {},
): Guard<undefined, In> {
  assertKnown('errorMapper', options, ['map', 'requestId']);
  const { map, requestId } = options;
  if (map !== undefined) assertFunction('errorMapper: map', map);
  if (requestId !== undefined) assertFunction('errorMapper: requestId', requestId);
  return (_request, context) => ({
    pass: true,
    context: undefined,
    explain: (failure) => {
      const id = requestId && { requestId: requestId(context) };
      const reply = answerTo(mappedBy(map, failure) ?? known(failure), id);
      publish('error-answered', () => ({ status: reply.status, error: failure.error, ...id }));
      return reply;
    },
  });
}

/** What is yours to say may be nothing that JSON can: then nothing is said. */
function answerTo(mapped: MappedError, id: { readonly requestId: string } | undefined): Reply {
  try {
    return problem({ ...mapped, ...id });
  } catch {
    return problem({ status: 500, ...id });
  }
}

function mappedBy(
  map: ErrorMapperOptions<never>['map'],
  { error }: Failure,
): MappedError | undefined {
  if (!map || error === undefined) return undefined;
  try {
    const mapped = map(error);
    return mapped && isErrorStatus(mapped.status) ? mapped : undefined;
  } catch {
    // What was thrown first is what is reported and answered for.
    return undefined;
  }
}

/**
 * Only frameworks' own errors, and those made to be shown, say what a caller is answered. Others carry a status by accident: that of a service which
 * was called, mostly, whose 401 would tell our caller that its credentials are wrong.
 */
function ownStatus(error: object, status: number): number {
  const { expose, code, getResponse } = error as Record<string, unknown>;
  const isMeant =
    expose === true ||
    (typeof code === 'string' && code.startsWith('FST_')) ||
    typeof getResponse === 'function' ||
    // A path that cannot be decoded, to the router of Express.
    error instanceof URIError;
  return isMeant ? status : 500;
}

function isErrorStatus(status: number): boolean {
  return Number.isInteger(status) && status >= 400 && status <= 599;
}

function known({ status, error }: Failure): MappedError {
  if (error === undefined) return { status };
  if (typeof error !== 'object' || error === null) return { status: 500 };
  const { code } = error as { code?: unknown };
  if (typeof code !== 'string' || !Object.hasOwn(statuses, code)) {
    return { status: ownStatus(error, status) };
  }
  const mapped = statuses[code] ?? 500;
  // What was wrong with its input is the caller's to know: bounded, and without the values.
  if (error instanceof HardeningError) {
    const { message: detail, errors } = error;
    return { status: mapped, detail, code, ...(errors.length > 0 && { errors }) };
  }
  return { status: mapped };
}

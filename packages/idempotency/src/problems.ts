import type { HeaderEntry, Reply } from '@countersign/guard';
import type { IdempotencyErrorCode } from './errors.ts';
import { channels } from './events.ts';

interface ProblemKind {
  readonly code: IdempotencyErrorCode;
  readonly status: number;
  /** Ends the problem's type, which leads to the README's section of this name. */
  readonly slug: string;
  readonly title: string;
  readonly detail: string;
  readonly retryAfterSeconds?: number;
}

const typeBase = 'https://github.com/countersign/countersign/tree/main/packages/idempotency#';

/** The refusals of the guard. */
export type Problem =
  | 'missing'
  | 'malformed'
  | 'mismatch'
  | 'processing'
  | 'unknown'
  | 'not-stored'
  | 'streamed'
  | 'unreadable'
  | 'store-failed';

const kinds: Readonly<Record<Problem, ProblemKind>> = {
  missing: {
    code: 'ERR_IDEMPOTENCY_KEY_MISSING',
    status: 400,
    slug: 'key-missing',
    title: 'Idempotency-Key is missing',
    detail: 'This operation requires an Idempotency-Key header field.',
  },
  malformed: {
    code: 'ERR_IDEMPOTENCY_KEY_MALFORMED',
    status: 400,
    slug: 'key-malformed',
    title: 'Idempotency-Key is malformed',
    detail: 'Expected one Idempotency-Key header field: a quoted string of 1 to 255 characters.',
  },
  mismatch: {
    code: 'ERR_IDEMPOTENCY_KEY_REUSED',
    status: 422,
    slug: 'key-reused',
    title: 'Idempotency-Key is already used',
    detail: 'This key was sent with another request. Use a new key for a new request.',
  },
  processing: {
    code: 'ERR_IDEMPOTENCY_IN_PROGRESS',
    status: 409,
    slug: 'request-in-progress',
    title: 'Request already in progress',
    detail: 'The request with this key is being processed. Ask again for its outcome.',
    retryAfterSeconds: 1,
  },
  unknown: {
    code: 'ERR_IDEMPOTENCY_OUTCOME_UNKNOWN',
    status: 409,
    slug: 'outcome-unknown',
    title: 'The outcome of this request is unknown',
    detail:
      'The request with this key was interrupted. It may or may not have been executed, so it is not executed again.',
  },
  'not-stored': {
    code: 'ERR_IDEMPOTENCY_RESULT_NOT_STORED',
    status: 409,
    slug: 'response-not-stored',
    title: 'The response was not stored',
    detail:
      'The request with this key was executed and answered; the answer was too large to be kept.',
  },
  streamed: {
    code: 'ERR_IDEMPOTENCY_STREAM_REFUSED',
    status: 500,
    slug: 'stream-refused',
    title: 'The response cannot be kept',
    detail:
      'The request was executed, and its response is a stream, which cannot be kept. It is not executed again.',
  },
  unreadable: {
    code: 'ERR_IDEMPOTENCY_RECORD_UNREADABLE',
    status: 503,
    slug: 'record-unreadable',
    title: 'The record of this request cannot be read',
    detail: 'The request with this key is known, and its outcome cannot be read at the moment.',
    retryAfterSeconds: 5,
  },
  'store-failed': {
    code: 'ERR_IDEMPOTENCY_STORE_UNAVAILABLE',
    status: 503,
    slug: 'store-unavailable',
    title: 'Idempotency cannot be guaranteed at the moment',
    detail: 'The request was not executed. Send it again with the same key.',
    retryAfterSeconds: 1,
  },
};

interface ProblemContext {
  readonly id?: string;
  readonly headers?: readonly HeaderEntry[];
  /** Members of the problem besides the standard ones (RFC 9457 §3.2). */
  readonly members?: Readonly<Record<string, unknown>>;
}

/** Makes the replies (RFC 9457). `documentation` goes into a `Link` of relation `describedby`. */
export function problems(
  documentation: string | undefined,
): (problem: Problem, context?: ProblemContext) => Reply {
  const link: readonly HeaderEntry[] =
    documentation === undefined ? [] : [['link', `<${address(documentation)}>; rel="describedby"`]];
  return (problem, { id, headers = [], members } = {}) => {
    const { code, status, slug, title, detail, retryAfterSeconds } = kinds[problem];
    channels.refused.publish({ id, code });
    return {
      pass: false,
      status,
      headers: [
        ['content-type', 'application/problem+json'],
        ...(retryAfterSeconds ? [['retry-after', String(retryAfterSeconds)] as const] : []),
        ...link,
        ...headers,
      ],
      body: JSON.stringify({ type: typeBase + slug, title, status, detail, code, ...members }),
    };
  };
}

function address(documentation: string): string {
  if (!URL.canParse(documentation)) throw new TypeError('documentation: expected an absolute URL');
  return new URL(documentation).href;
}

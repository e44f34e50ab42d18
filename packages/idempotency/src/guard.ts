import { validateHeaderName, validateHeaderValue } from 'node:http';
import type { Guard, GuardRequest, HeaderEntry, Outcome, Pass, Reply } from '@countersign/guard';
import { assertKnown, type OptionNames } from '@countersign/options';
import { type Acquired, acquire, type Recovery } from './acquire.ts';
import { IdempotencyError } from './errors.ts';
import { channels } from './events.ts';
import {
  type Execution,
  LeasedExecution,
  type UnknownOutcome,
  unprotected,
} from './idempotency.ts';
import { fingerprintOf, identityOf } from './identity.ts';
import { parseIdempotencyKey } from './key.ts';
import type { Lease } from './lease.ts';
import { assertFunction } from './options.ts';
import { problems } from './problems.ts';
import { canonicalPath, isMethod, routes } from './routes.ts';
import {
  assertInteger,
  assertOnUnknown,
  commonOptions,
  type IdempotencyOptions,
  settingsOf,
} from './settings.ts';
import {
  decodeResponse,
  encodeResponse,
  joined,
  replayList,
  type StoredResponse,
} from './stored-response.ts';

export type { Execution } from './idempotency.ts';

/** The routes that require a key unless told otherwise. */
export const defaultRequiredRoutes: readonly string[] = [
  'POST /payments',
  'POST /transfers',
  'POST /orders',
  'POST /webhooks/*',
];

/** A request whose earlier execution never said how it ended. */
export interface UnknownRequest extends UnknownOutcome {
  readonly principal: string;
  /** The retry that found it; its body is that of the earlier request. */
  readonly request: GuardRequest;
}

/** What a reconcile hook decides: nothing, run it again, or answer (now and later) with this outcome. */
export type RequestRecovery =
  | 'refuse'
  | 'rerun'
  | {
      readonly status: number;
      readonly headers?: readonly HeaderEntry[];
      readonly body?: Uint8Array | string;
    };

/** Options of {@link idempotencyGuard}. */
export interface IdempotencyGuardOptions<In> extends IdempotencyOptions {
  /** Whose key it is: the same key of two callers means two requests. Must not be empty. */
  readonly principal: (request: GuardRequest, context: In) => string;
  /**
   * Routes that refuse requests without a key: `POST /orders/:id/pay`, `POST /webhooks/*`. Matched against the path
   * that the chain sees and against the framework's route. Default {@link defaultRequiredRoutes}.
   */
  readonly required?: readonly string[];
  /** Methods whose requests are protected when they carry a key. Default `POST` and `PATCH`. */
  readonly methods?: readonly string[];
  /** Also accept keys without quotes, which is what most clients send. Default true. */
  readonly unquotedKeys?: boolean;
  /**
   * When an earlier execution never said how it ended (its process died): `refuse` (default) answers 409, `rerun` runs
   * the handler again, and a function finds out and decides. While it runs nobody else runs or decides.
   */
  readonly onUnknown?:
    | 'refuse'
    | 'rerun'
    | ((unknown: UnknownRequest) => RequestRecovery | Promise<RequestRecovery>);
  /**
   * A larger body is not kept: later requests get a 409 that says so. Default 1 MiB. The adapter's `maxSettleBytes`
   * must not be smaller.
   */
  readonly maxBodyBytes?: number;
  /**
   * What becomes of a response that streams (`flushHeaders()`, `text/event-stream`). `refuse` (default): the guard is not
   * mounted where the adapter is told `streams: true`, and elsewhere such a response is replaced by a 500 that says so.
   * `buffer`: it is held back until it is complete, up to the adapter's `maxSettleBytes`, and stored.
   */
  readonly streaming?: 'refuse' | 'buffer';
  /** Header fields that replays carry besides those of `defaultReplayHeaders`. Never `Set-Cookie` and its like. */
  readonly replayHeaders?: readonly string[];
  /** A page about your use of keys, for the `Link: <…>; rel="describedby"` of every refusal. */
  readonly documentation?: string;
}

const known: OptionNames<IdempotencyGuardOptions<never>> = {
  ...commonOptions,
  principal: true,
  required: true,
  methods: true,
  unquotedKeys: true,
  onUnknown: true,
  maxBodyBytes: true,
  streaming: true,
  replayHeaders: true,
  documentation: true,
};

/**
 * Runs a request once per `Idempotency-Key` and caller, and answers retries with the stored response
 * (draft-ietf-httpapi-idempotency-key-header-07).
 * @throws TypeError naming the option that is wrong, or that there is not.
 */
export function idempotencyGuard<In = object>(
  options: IdempotencyGuardOptions<In>,
): Guard<Execution, In> {
  assertKnown(options, known);
  const settings = settingsOf(options);
  const { principal: principalOf, onUnknown = 'refuse', maxBodyBytes = 1024 * 1024 } = options;
  const { methods = ['POST', 'PATCH'], unquotedKeys = true, streaming = 'refuse' } = options;
  assertFunction('principal', principalOf);
  assertOnUnknown(onUnknown);
  if (!Array.isArray(methods) || !methods.every(isMethod)) {
    throw new TypeError("methods: expected methods in upper case, such as ['POST']");
  }
  assertInteger('maxBodyBytes', maxBodyBytes, 0);
  if (streaming !== 'refuse' && streaming !== 'buffer') {
    throw new TypeError("streaming: expected 'refuse' or 'buffer'");
  }
  const isRequired = routes(options.required ?? defaultRequiredRoutes);
  const replayHeaders = replayList(options.replayHeaders ?? []);
  const refuse = problems(options.documentation);
  const httpDate = httpDates();

  const encode = (response: StoredResponse, method: string): Uint8Array => {
    const { status, body } = response;
    const headers: HeaderEntry[] = [];
    for (const [name, value] of response.headers) {
      const lower = name.toLowerCase();
      // The length that a HEAD response states cannot be computed from its body.
      const isKept = replayHeaders.has(lower) || (method === 'HEAD' && lower === 'content-length');
      if (isKept) headers.push([lower, value]);
    }
    // No verdict may have a status beyond 599.
    const isKept = body !== undefined && body.byteLength <= maxBodyBytes && status <= 599;
    return encodeResponse({ status, headers: joined(headers), body: isKept ? body : undefined });
  };
  const recoveryOf = (decided: RequestRecovery, method: string): Recovery =>
    decided === 'refuse' || decided === 'rerun'
      ? decided
      : { payload: encode(responseOf(decided), method) };
  const settle = (
    lease: Lease,
    isExecuted: boolean,
    outcome: Outcome,
    method: string,
  ): Promise<unknown> => {
    if (!isExecuted || outcome.refused) return lease.release();
    if (outcome.aborted) return lease.abandon();
    return lease.complete(settings.seal.seal(encode(outcome, method), lease.claim.id));
  };
  const pass = (key: string, lease: Lease, method: string): Pass<Execution> => {
    const execution = new LeasedExecution(key, lease);
    return {
      pass: true,
      context: execution,
      headers: [['idempotency-expires', httpDate(settings.now() + settings.ttlMs)]],
      settle: async (outcome) => {
        await settle(lease, execution.isExecuted, outcome, method);
      },
      streaming:
        streaming === 'buffer' ? streaming : () => refuse('streamed', { id: lease.claim.id }),
    };
  };
  const replay = (id: string, acquired: Extract<Acquired, { state: 'completed' }>): Reply => {
    const marks: HeaderEntry[] = [
      ['idempotency-replayed', 'true'],
      ['idempotency-expires', httpDate(settings.now() + acquired.expiresInMs)],
    ];
    const stored = acquired.payload && decodeResponse(acquired.payload);
    if (acquired.payload && !stored) return refuse('unreadable', { id });
    if (!stored?.body) {
      return refuse('not-stored', {
        id,
        headers: marks,
        members: { originalStatus: stored?.status },
      });
    }
    channels.replayed.publish({ id });
    const { status, headers, body } = stored;
    const reply = { pass: false, status, headers: [...headers, ...marks], verbatim: true } as const;
    return body.byteLength > 0 ? { ...reply, body } : reply;
  };

  const guard: Guard<Execution, In> = async (request, context) => {
    const { method, path } = request;
    const isNeeded =
      isRequired(method, path) ||
      (request.route !== undefined && isRequired(method, request.route));
    const lines = request.headers.all('idempotency-key');
    if (lines.length === 0 && isNeeded) return refuse('missing');
    if (lines.length === 0 || !(isNeeded || methods.includes(method))) {
      return { pass: true, context: unprotected() };
    }
    const key = keyIn(lines, unquotedKeys);
    if (key === undefined) return refuse('malformed');
    const principal = principalOf(request, context);
    if (typeof principal !== 'string' || principal === '') {
      throw new IdempotencyError(
        'ERR_IDEMPOTENCY_PRINCIPAL_MISSING',
        'principal() gave no name: without one, callers would share their keys',
      );
    }
    const id = identityOf(principal, method, request.route ?? canonicalPath(path), key);
    // As received: what is spelled differently might be read differently, and bytes that are no text parse alike.
    const target = path + (request.search ?? `?${request.query.toString()}`);
    const contentType = request.headers.get('content-type') ?? '';
    const body = await request.rawBody();
    const acquired = await acquire(settings, {
      id,
      fingerprint: fingerprintOf(principal, key, { method, target, contentType, body }),
      onUnknown:
        typeof onUnknown === 'function'
          ? async (fence) => recoveryOf(await onUnknown({ key, fence, principal, request }), method)
          : onUnknown,
      signal: () => request.signal,
    });
    switch (acquired.state) {
      case 'acquired':
        return pass(key, acquired.lease, method);
      case 'completed':
        return replay(id, acquired);
      case 'store-failed':
        return settings.onStoreError === 'open'
          ? { pass: true, context: unprotected(key) }
          : refuse('store-failed', { id });
      case 'unreadable':
      case 'mismatch':
      case 'processing':
      case 'unknown':
        return refuse(acquired.state, { id });
    }
  };
  return Object.assign(guard, { refusesStreams: streaming === 'refuse' });
}

/** Their responses have no content (RFC 9110 §15.3.5, §15.3.6, §15.4.5). */
const withoutContent: ReadonlySet<number> = new Set([204, 205, 304]);

/** Checked as node:http checks what a handler sends: it will be sent as often as it is asked for. */
function responseOf(decided: Exclude<RequestRecovery, string>): StoredResponse {
  try {
    const { status, headers = [], body = '' } = decided;
    if (!Number.isInteger(status) || status < 200 || status > 599) {
      throw new TypeError('status: expected a whole number from 200 to 599');
    }
    for (const [name, value] of headers) {
      validateHeaderName(name);
      validateHeaderValue(name, value);
    }
    const bytes = typeof body === 'string' ? Buffer.from(body) : body;
    if (!(bytes instanceof Uint8Array)) throw new TypeError('body: expected a string or bytes');
    return { status, headers, body: withoutContent.has(status) ? Buffer.of() : bytes };
  } catch (cause) {
    const expected = "onUnknown: expected it to give 'refuse', 'rerun' or a response";
    throw new TypeError(expected, { cause });
  }
}

/** `undefined` when the header does not hold one key. Several lines are several keys (RFC 9651 §4.2). */
function keyIn(lines: readonly string[], unquoted: boolean): string | undefined {
  try {
    return lines.length === 1 ? parseIdempotencyKey(lines[0] ?? '', { unquoted }) : undefined;
  } catch {
    return undefined;
  }
}

/** The same for all requests of a second: writing a date costs as much as hashing a request. */
function httpDates(): (ms: number) => string {
  let second = Number.NaN;
  let text = '';
  return (ms) => {
    if (Math.floor(ms / 1000) !== second) {
      second = Math.floor(ms / 1000);
      text = new Date(ms).toUTCString();
    }
    return text;
  };
}

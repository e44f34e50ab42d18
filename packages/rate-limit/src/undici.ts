import type { IncomingHttpHeaders } from 'node:http';
import { Stream } from 'node:stream';
import { assertKnown, type OptionNames } from '@countersign/options';
import type { Dispatcher } from 'undici';
import type { Decision } from './decision.ts';
import { assertFunction, assertName } from './options.ts';
import { parseRateLimitHeaders, type ServerLimit } from './parse-headers.ts';
import type { RateLimiter } from './rate-limiter.ts';
import { assertWait } from './turnstile.ts';

export interface PaceOptions<Name extends string> {
  /** Whose quota a request uses up; default the origin it goes to. `undefined`: it is not paced. */
  readonly key?: (request: Dispatcher.DispatchOptions) => string | undefined;
  /** Which set of limits; may be left out when the limiter has one only. */
  readonly policy?: Name;
  /** An integer of at least 1; default 1. */
  readonly cost?: (request: Dispatcher.DispatchOptions) => number;
  /** A request that would have to wait longer fails with `ERR_RATE_LIMIT_WAIT`. Default 30,000. */
  readonly maxWaitMs?: number;
  /** No server can make the fleet wait longer than this. Default 900,000 (15 minutes). */
  readonly maxRestrictMs?: number;
}

const known: OptionNames<PaceOptions<string>> = {
  key: true,
  policy: true,
  cost: true,
  maxWaitMs: true,
  maxRestrictMs: true,
};

/** How long to stay away from a server that answered 429 and did not say. */
const unspecifiedMs = 1000;

/**
 * An undici interceptor that keeps a fleet within a quota: each request waits its turn, first come, first served, and
 * what the server says of its limits (`RateLimit`, `X-RateLimit-*`, `Retry-After` on 429 and 503) holds for every process that
 * shares the limiter's store. Put it inside of a retrying interceptor, so that every attempt is counted. A request that
 * cannot have its turn fails through its handler; one that is aborted while it waits leaves the queue. A concurrency slot is
 * given back when the response has ended.
 * @throws TypeError for an option that makes no sense, naming it.
 */
export function pace<Name extends string>(
  limiter: RateLimiter<Name>,
  options: PaceOptions<Name> = {},
): Dispatcher.DispatcherComposeInterceptor {
  assertKnown(options, known);
  const { key = originOf, cost, maxWaitMs, maxRestrictMs = 900_000 } = options;
  if (typeof limiter?.acquire !== 'function')
    throw new TypeError('limiter: expected a RateLimiter');
  if (options.policy !== undefined) assertName('policy', options.policy);
  assertFunction('key', key);
  assertFunction('cost', cost);
  if (maxWaitMs !== undefined) assertWait(maxWaitMs);
  if (!(maxRestrictMs >= 1 && maxRestrictMs <= 86_400_000))
    throw new TypeError('maxRestrictMs: expected milliseconds from 1 to 86,400,000');
  const policy = options.policy === undefined ? {} : { policy: options.policy };
  return (dispatch) => (request, handler) => {
    const subject = key(request);
    if (subject === undefined) return dispatch(request, handler);
    const paced = new PacedHandler(handler, {
      answered(status, headers, decision) {
        const told = restrictionOf(status, headers, decision);
        if (!told) return;
        const durationMs = Math.max(1, Math.ceil(Math.min(told.durationMs, maxRestrictMs)));
        const restriction = { ...policy, remaining: told.remaining, durationMs };
        // The answer is not held up for it; when the store is down there is nobody to tell.
        limiter.restrict(subject, restriction).catch(() => {});
      },
      // When the store is down, the slot frees itself at the end of its lease.
      over: ({ slot }) => void limiter.release(subject, { ...policy, slot }).catch(() => {}),
    });
    limiter
      .acquire(subject, {
        ...policy,
        ...(cost && { cost: cost(request) }),
        ...(maxWaitMs !== undefined && { maxWaitMs }),
        signal: paced.signal,
      })
      .finally(watchBody(request.body, (error) => paced.abort(error)))
      .then(
        (decision) => {
          paced.decision = decision;
          dispatch(request, paced);
        },
        (error: Error) => paced.onResponseError(paced, error),
      )
      .catch((error: Error) => paced.onResponseError(paced, error));
    return true;
  };
}

/**
 * A body that streams and fails while its request waits is the request's failure; nobody else listens to it before it is sent, and
 * an error that nobody listens to ends the process.
 * @returns ends it.
 */
function watchBody(
  body: Dispatcher.DispatchOptions['body'],
  failed: (error: Error) => void,
): () => void {
  if (!(body instanceof Stream)) return () => {};
  body.on('error', failed);
  return () => void body.off('error', failed);
}

interface Told {
  readonly remaining: number;
  readonly durationMs: number;
}

/** What a response tells the fleet; `undefined`: nothing that it does not know. */
function restrictionOf(
  status: number,
  headers: IncomingHttpHeaders,
  decision: Decision,
): Told | undefined {
  const refused = status === 429 || status === 503;
  const { limits, retryAfterMs } = parseRateLimitHeaders(headers);
  if (refused && retryAfterMs !== undefined)
    return retryAfterMs > 0 ? { remaining: 0, durationMs: retryAfterMs } : undefined;
  const tightest = limits
    .filter(({ unit }) => unit !== 'concurrent-requests')
    .filter((limit): limit is ServerLimit & { resetMs: number } => (limit.resetMs ?? 0) > 0)
    .sort((a, b) => a.remaining - b.remaining || b.resetMs - a.resetMs)[0];
  if (status === 429)
    return {
      remaining: 0,
      durationMs: tightest?.remaining === 0 ? tightest.resetMs : unspecifiedMs,
    };
  if (!tightest || tightest.remaining >= countedLeft(decision)) return undefined;
  return { remaining: tightest.remaining, durationMs: tightest.resetMs };
}

/** What is left of our own limits. Free slots are none of the server's business: they come back by themselves. */
function countedLeft({ policies, remaining }: Decision): number {
  const counted = policies.filter(({ concurrent }) => !concurrent);
  return counted.length === policies.length
    ? remaining
    : Math.min(...counted.map((policy) => policy.remaining));
}

function originOf({ origin }: Dispatcher.DispatchOptions): string | undefined {
  return origin === undefined ? undefined : new URL(origin).origin;
}

/** Who follows a request that has had its turn. */
interface Watcher {
  answered(status: number, headers: IncomingHttpHeaders, decision: Decision): void;
  /** However it ended; once. */
  over(decision: Decision): void;
}

/**
 * Holds the request's handler while it waits, and gives it a controller at once so that it can be aborted meanwhile; later
 * that controller stands for the one of the connection.
 */
class PacedHandler implements Dispatcher.DispatchHandler, Dispatcher.DispatchController {
  decision: Decision | undefined;
  readonly #handler: Dispatcher.DispatchHandler;
  readonly #watcher: Watcher;
  readonly #waiting = new AbortController();
  #connection: Dispatcher.DispatchController | undefined;
  #paused = false;

  constructor(handler: Dispatcher.DispatchHandler, watcher: Watcher) {
    this.#handler = handler;
    this.#watcher = watcher;
    handler.onRequestStart?.(this, {});
  }

  get signal(): AbortSignal {
    return this.#waiting.signal;
  }

  get aborted(): boolean {
    return this.#waiting.signal.aborted || (this.#connection?.aborted ?? false);
  }

  get paused(): boolean {
    return this.#connection?.paused ?? this.#paused;
  }

  get reason(): Error | null {
    return (this.#waiting.signal.reason as Error | undefined) ?? this.#connection?.reason ?? null;
  }

  get rawHeaders(): NonNullable<Dispatcher.DispatchController['rawHeaders']> | null {
    return this.#connection?.rawHeaders ?? null;
  }

  get rawTrailers(): NonNullable<Dispatcher.DispatchController['rawTrailers']> | null {
    return this.#connection?.rawTrailers ?? null;
  }

  abort(reason: Error): void {
    this.#waiting.abort(reason);
    this.#connection?.abort(reason);
  }

  pause(): void {
    this.#paused = true;
    this.#connection?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#connection?.resume();
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#connection = controller;
    if (this.#waiting.signal.aborted) controller.abort(this.#waiting.signal.reason as Error);
    else if (this.#paused) controller.pause();
  }

  onRequestUpgrade(
    ...[, status, headers, socket]: Parameters<
      NonNullable<Dispatcher.DispatchHandler['onRequestUpgrade']>
    >
  ): void {
    this.#over();
    this.#handler.onRequestUpgrade?.(this, status, headers, socket);
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
    statusMessage?: string,
  ): void {
    if (status >= 200 && this.decision) this.#watcher.answered(status, headers, this.decision);
    this.#handler.onResponseStart?.(this, status, headers, statusMessage);
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#handler.onResponseData?.(this, chunk);
  }

  onResponseEnd(_controller: Dispatcher.DispatchController, trailers: IncomingHttpHeaders): void {
    this.#over();
    this.#handler.onResponseEnd?.(this, trailers);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#over();
    this.#handler.onResponseError?.(this, error);
  }

  #over(): void {
    const { decision } = this;
    this.decision = undefined;
    if (decision) this.#watcher.over(decision);
  }
}

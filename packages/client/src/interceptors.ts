import { deadline } from '@countersign/retry';
import type { Dispatcher } from 'undici';
import { refusal } from './accept.ts';
import { letFail } from './body.ts';
import type { BreakerOptions } from './breaker.ts';
import { type AttemptPolicy, type Order, perform } from './call.ts';
import type { ConcurrencyOptions } from './concurrency.ts';
import { newRequestId } from './correlation.ts';
import { ClientError } from './errors.ts';
import { breakerOpen, queueFull } from './failure.ts';
import { headerOf } from './headers.ts';
import type { ClientOptions, RetryOptions } from './options.ts';
import { IDEMPOTENT_METHODS } from './order.ts';
import { type OriginPolicies, originStates } from './origin.ts';
import { Passage } from './passage.ts';
import { isNetworkError, isOriginWell } from './retry-policy.ts';
import { LONGEST_TIMER_MS, retrying, whole } from './settings.ts';

type Interceptor = Dispatcher.DispatcherComposeInterceptor;
type Request = Dispatcher.DispatchOptions;

const NONE: OriginPolicies = { budget: false, breaker: false, concurrency: false };

/**
 * An undici interceptor that ends a request, whatever the layers inside of it are doing, when its response has not
 * ended after `deadlineMs` milliseconds: `ClientError` `ERR_CLIENT_DEADLINE_EXCEEDED`.
 * @throws TypeError when the option is not a whole number from 1 to 2,147,483,647.
 */
export function totalDeadline(options: {
  readonly deadlineMs: number;
}): Dispatcher.DispatcherComposeInterceptor {
  const ms = whole(options.deadlineMs, 0, 'deadlineMs', LONGEST_TIMER_MS);
  const late = (): ClientError =>
    new ClientError('ERR_CLIENT_DEADLINE_EXCEEDED', 'the deadline has passed', {
      stopped: 'deadline',
    });
  return timeLimit(ms, late);
}

/**
 * An undici interceptor that ends an attempt whose response has not ended after `attemptTimeoutMs` milliseconds:
 * `ClientError` `ERR_CLIENT_ATTEMPT_TIMEOUT`. Put it inside of {@link retry}, which then tries again.
 * @throws TypeError when the option is not a whole number from 1 to 2,147,483,647.
 */
export function attemptTimeout(options: {
  readonly attemptTimeoutMs: number;
}): Dispatcher.DispatcherComposeInterceptor {
  const ms = whole(options.attemptTimeoutMs, 0, 'attemptTimeoutMs', LONGEST_TIMER_MS);
  return timeLimit(
    ms,
    () => new ClientError('ERR_CLIENT_ATTEMPT_TIMEOUT', `no response in ${ms} ms`),
  );
}

function timeLimit(ms: number, late: () => ClientError): Interceptor {
  return (dispatch) =>
    function limit(request, handler) {
      let timer: NodeJS.Timeout | undefined;
      const passage = new Passage(handler, { over: () => clearTimeout(timer) });
      if (passage.ended) return true;
      timer = setTimeout(() => passage.stop(late()), ms);
      return pass(dispatch, request, passage);
    };
}

/**
 * An undici interceptor that bounds the requests of each origin that run at the same time, from its start to the end of
 * its response: first come, first served, and `ClientError` `ERR_CLIENT_QUEUE_FULL` when too many are waiting.
 * @throws TypeError when an option is not what it must be.
 */
export function concurrency(
  options: ConcurrencyOptions = {},
): Dispatcher.DispatcherComposeInterceptor {
  const stateOf = checked({ ...NONE, concurrency: options });
  return (dispatch) =>
    function queue(request, handler) {
      const { bound, origin } = stateOf(originOf(request));
      const gone = new AbortController();
      let entered = false;
      const passage = new Passage(handler, {
        over: ({ error }) => {
          if (entered) bound?.leave();
          else gone.abort(error);
        },
      });
      if (passage.ended) return true;
      if (bound?.tryEnter() === false) {
        letFail(request.body);
        const turn = bound.enter(gone.signal);
        if (!turn) passage.stop(queueFull(origin));
        turn?.then(
          () => {
            // Who gave up in this very moment was given the place all the same.
            if (passage.ended) bound.leave();
            else {
              entered = true;
              pass(dispatch, request, passage);
            }
          },
          () => {},
        );
        return true;
      }
      entered = true;
      return pass(dispatch, request, passage);
    };
}

/**
 * An undici interceptor with a circuit breaker for each origin: while it is open, requests fail at once with
 * `ClientError` `ERR_CLIENT_BREAKER_OPEN`. Connection errors, timeouts and 5xx (but 501) count as failures.
 * @throws TypeError when an option is not what it must be.
 */
export function breaker(options: BreakerOptions = {}): Dispatcher.DispatcherComposeInterceptor {
  const stateOf = checked({ ...NONE, breaker: options });
  return (dispatch) =>
    function guard(request, handler) {
      const state = stateOf(originOf(request));
      let ticket = 0;
      const leave = (succeeded: boolean | undefined): void => {
        if (ticket !== 0) state.breaker?.leave(ticket, succeeded);
        ticket = 0;
      };
      const passage = new Passage(handler, {
        answered: (status) => leave(isOriginWell(status)),
        over: ({ error, aborted }) =>
          leave(error && !aborted && isNetworkError(error) ? false : undefined),
      });
      if (passage.ended) return true;
      ticket = state.breaker?.tryEnter() ?? 0;
      if (ticket === 0) {
        passage.stop(breakerOpen(state, 0));
        return true;
      }
      return pass(dispatch, request, passage);
    };
}

/** Options of {@link retry}. */
export interface RetryInterceptorOptions extends RetryOptions {
  /** As the client's. Default: 0.2 retries per call and 1 per second, of the latter 10 until a call succeeds. */
  readonly budget?: Exclude<ClientOptions['budget'], undefined>;
  /** For all attempts together, until the head of the last response, in milliseconds. Default 30,000. */
  readonly deadlineMs?: number;
  /** The wall clock in milliseconds, for dates in `Retry-After`. Default `Date.now`. */
  readonly now?: () => number;
}

/**
 * An undici interceptor that tries again as the client does: what is retried, `Retry-After`, full jitter, budget. A
 * request may be repeated when its method is idempotent or it has an `Idempotency-Key` (so {@link idempotencyKey} goes
 * outside of it), and its body is text, bytes or none. The last response is passed on as it arrives, whatever its status.
 * @throws TypeError when an option is not what it must be.
 */
export function retry(
  options: RetryInterceptorOptions = {},
): Dispatcher.DispatcherComposeInterceptor {
  const { budget = {}, deadlineMs, now = Date.now, ...retryOptions } = options;
  const wholeMs = whole(deadlineMs, 30_000, 'deadlineMs', LONGEST_TIMER_MS);
  if (typeof now !== 'function') throw new TypeError('now must be a function');
  const policy: AttemptPolicy = {
    ...retrying(retryOptions),
    attemptTimeoutMs: LONGEST_TIMER_MS,
    maxResponseBytes: Number.MAX_SAFE_INTEGER,
    maxErrorBytes: 65_536,
    hedgeAfterMs: undefined,
    now,
  };
  const stateOf = checked({ ...NONE, budget });
  return (dispatch) =>
    function repeat(request, handler) {
      const gone = new AbortController();
      const passage = new Passage(handler, {
        over: ({ aborted }) => {
          if (aborted) gone.abort();
        },
      });
      if (passage.ended) return true;
      letFail(request.body);
      const state = stateOf(originOf(request));
      const limit = deadline(wholeMs, gone.signal);
      perform(
        {
          ...orderOf(request),
          dispatch: (attempt, collector) => dispatch({ ...request, ...attempt }, collector),
          deadline: limit,
          signal: gone.signal,
          receiver: passage,
        },
        state,
        policy,
      )
        .then(async (ending) => {
          // A retry was planned for it, and then another request took what was left of the budget.
          if (!ending.answer.received) {
            passage.stop(await refusal(ending, state, policy.maxErrorBytes));
          }
        })
        .catch((error: unknown) => passage.stop(error as Error))
        .finally(() => limit.dispose());
      return true;
    };
}

type Attempted = Omit<Order, 'dispatch' | 'deadline' | 'signal' | 'receiver'>;

function orderOf(request: Request): Attempted {
  const { method, path, headers, body } = request;
  const origin = originOf(request);
  const replayable = body == null || typeof body === 'string' || body instanceof Uint8Array;
  const key = headerOf(headers, 'idempotency-key');
  return {
    identity: {
      requestId: headerOf(headers, 'x-request-id') ?? newRequestId(),
      method,
      origin,
      path: path.split('?', 1)[0] ?? '/',
      ...(key === undefined ? {} : { idempotencyKey: key }),
    },
    target: { origin, path },
    // Passed on in whatever form they came: without a deadline header nothing is added to them.
    headers: headers as Order['headers'],
    deadlineHeader: undefined,
    payload: body instanceof Uint8Array ? Buffer.from(body) : body,
    replayable,
    repeatable: replayable && (key !== undefined || IDEMPOTENT_METHODS.has(method)),
  };
}

function originOf({ origin }: Request): string {
  return String(origin);
}

/** The state of each origin. Options are checked now, not with the first request. */
function checked(policies: OriginPolicies): ReturnType<typeof originStates> {
  const stateOf = originStates(policies);
  stateOf('');
  return stateOf;
}

function pass(dispatch: Dispatcher.Dispatch, request: Request, passage: Passage): boolean {
  try {
    return dispatch(request, passage);
  } catch (error) {
    passage.stop(error as Error);
    return true;
  }
}

import { type Backoff, type Deadline, sleep } from '@countersign/retry';
import type { Dispatcher } from 'undici';
import {
  ClientError,
  type ClientErrorCode,
  type ClientErrorDetails,
  type StopReason,
} from './errors.ts';
import {
  type AttemptEvent,
  attemptChannel,
  type BudgetEvent,
  budgetChannel,
  type CallIdentity,
  type RetryEvent,
  retryChannel,
} from './events.ts';
import { type Answer, exchange, type Failure, isAnswer, type Outcome } from './exchange.ts';
import type { OriginState } from './origin.ts';
import { advise, isNetworkError, originSucceeded, waitBefore } from './retry-policy.ts';

/** One call, whatever the number of attempts it takes. */
export interface Order {
  readonly identity: CallIdentity;
  readonly dispatch: Dispatcher.Dispatch;
  readonly target: { readonly origin: string; readonly path: string };
  readonly headers: Readonly<Record<string, string>>;
  readonly payload: Dispatcher.DispatchOptions['body'];
  /** Whether a second attempt has at most the effect of the first. */
  readonly repeatable: boolean;
  readonly deadline: Deadline;
  readonly signal: AbortSignal | undefined;
}

/** What bounds attempts. */
export interface AttemptPolicy {
  readonly maxAttempts: number;
  readonly backoff: Backoff;
  readonly attemptTimeoutMs: number;
  readonly maxResponseBytes: number;
  readonly maxErrorBytes: number;
  /** The header that tells the callee how much time is left; `undefined` for none. */
  readonly deadlineHeader: string | undefined;
  /** The wall clock, for `Retry-After` dates. */
  readonly now: () => number;
}

/** What became of it: the last answer, if one came, and why there was no further attempt. */
export interface Ending {
  readonly answer: Answer;
  readonly attempts: number;
  readonly stopped: StopReason;
  readonly retryAfterMs: number | undefined;
}

/**
 * Sends until there is an answer that no further attempt would change, or a further one is not allowed. Answers with
 * an error status are returned, not thrown: what they mean is for the caller of this function to say.
 * @throws ClientError when there is no answer.
 */
export async function perform(
  order: Order,
  state: OriginState,
  policy: AttemptPolicy,
): Promise<Ending> {
  const { budget, breaker } = state;
  const { deadline, signal } = order;
  budget?.deposit();
  let waitedMs: number | undefined;
  for (let attempt = 1; ; attempt += 1) {
    if (breaker && !breaker.tryEnter()) throw breakerOpen(state, attempt - 1);
    const outcome = await send(order, attempt, policy);
    breaker?.leave(originSucceeded(outcome));

    const advice = advise(outcome, policy.now());
    const end = (stopped: StopReason): Ending => {
      const { retryAfterMs } = advice;
      if (isAnswer(outcome)) return { answer: outcome, attempts: attempt, stopped, retryAfterMs };
      throw failure(outcome, order, { attempts: attempt, stopped, ...balanceOf(state) });
    };
    if (!advice.repeat) return end(advice.why);
    if (!order.repeatable) return end('not_repeatable');
    if (attempt >= policy.maxAttempts) return end('attempts_exhausted');
    if (breaker?.state === 'open') return end('breaker_open');
    const backoffMs = policy.backoff(attempt, waitedMs);
    const waitMs = waitBefore(backoffMs, advice.retryAfterMs, deadline.remaining());
    if (waitMs === undefined) return end('deadline');
    if (budget && !budget.tryWithdraw()) {
      if (budgetChannel.hasSubscribers) {
        const { requestId } = order.identity;
        budgetChannel.publish({ origin: state.origin, requestId } satisfies BudgetEvent);
      }
      return end('budget_exhausted');
    }
    waitedMs = backoffMs;
    announceRetry(order, attempt, waitMs, advice.retryAfterMs, state);
    if (waitMs > 0) {
      try {
        await sleep(waitMs, deadline.signal);
      } catch (error) {
        throw interrupted(error, signal, attempt);
      }
    }
  }
}

/** The error of a wait that was ended by the caller's signal or by the deadline. */
export function interrupted(
  error: unknown,
  signal: AbortSignal | undefined,
  attempts: number,
): ClientError {
  return signal?.aborted
    ? new ClientError('ERR_CLIENT_ABORTED', 'the caller gave up', { attempts }, { cause: error })
    : new ClientError(
        'ERR_CLIENT_DEADLINE_EXCEEDED',
        'the deadline has passed',
        { attempts, stopped: 'deadline' },
        { cause: error },
      );
}

async function send(order: Order, attempt: number, policy: AttemptPolicy): Promise<Outcome> {
  const { target, identity, headers, payload, deadline, signal, dispatch } = order;
  const leftMs = Math.ceil(deadline.remaining());
  const { attemptTimeoutMs, maxResponseBytes, maxErrorBytes, deadlineHeader } = policy;
  const startedAt = performance.now();
  const outcome = await exchange(
    dispatch,
    {
      origin: target.origin,
      path: target.path,
      method: identity.method,
      headers:
        deadlineHeader === undefined ? headers : { ...headers, [deadlineHeader]: `${leftMs}` },
      body: payload,
    } as Dispatcher.DispatchOptions,
    { timeoutMs: Math.min(attemptTimeoutMs, leftMs), maxResponseBytes, maxErrorBytes, signal },
  );
  if (attemptChannel.hasSubscribers) {
    attemptChannel.publish({
      ...identity,
      attempt,
      durationMs: performance.now() - startedAt,
      ...(isAnswer(outcome) ? { status: outcome.status } : { failure: failureName(outcome) }),
    } satisfies AttemptEvent);
  }
  return outcome;
}

function failureName({ kind, error }: Failure): string {
  if (kind !== 'error') return kind;
  const { code } = error as { code?: unknown };
  return typeof code === 'string' ? code : error.name;
}

function failure(outcome: Failure, { deadline }: Order, details: ClientErrorDetails): ClientError {
  const [code, message] = describe(outcome, deadline.remaining() <= 0);
  return new ClientError(code, message, details, { cause: outcome.error });
}

function describe(
  { kind, error }: Failure,
  deadlinePassed: boolean,
): readonly [ClientErrorCode, string] {
  switch (kind) {
    case 'aborted':
      return ['ERR_CLIENT_ABORTED', 'the caller gave up'];
    case 'too_large':
      return ['ERR_CLIENT_RESPONSE_TOO_LARGE', error.message];
    case 'timeout':
      return deadlinePassed
        ? ['ERR_CLIENT_DEADLINE_EXCEEDED', 'the deadline has passed']
        : ['ERR_CLIENT_ATTEMPT_TIMEOUT', error.message];
    case 'error':
      if ((error as { code?: unknown }).code === 'ERR_EGRESS_RESPONSE_TOO_LARGE') {
        return ['ERR_CLIENT_RESPONSE_TOO_LARGE', error.message];
      }
      return isNetworkError(error)
        ? ['ERR_CLIENT_NETWORK', `the connection failed (${failureName({ kind, error })})`]
        : ['ERR_CLIENT_NOT_SENT', `the request could not be made: ${error.message}`];
  }
}

function breakerOpen(state: OriginState, attempts: number): ClientError {
  const retryAfterMs = state.breaker?.retryInMs ?? 0;
  return new ClientError(
    'ERR_CLIENT_BREAKER_OPEN',
    `${state.origin} has been failing; it is tried again in ${Math.ceil(retryAfterMs)} ms`,
    { attempts, retryAfterMs, stopped: 'final', ...balanceOf(state) },
  );
}

export function balanceOf({ budget }: OriginState): Pick<ClientErrorDetails, 'budgetBalance'> {
  return budget ? { budgetBalance: budget.balance } : {};
}

function announceRetry(
  { identity }: Order,
  attempt: number,
  waitMs: number,
  retryAfterMs: number | undefined,
  state: OriginState,
): void {
  if (!retryChannel.hasSubscribers) return;
  retryChannel.publish({
    ...identity,
    attempt,
    waitMs,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...balanceOf(state),
  } satisfies RetryEvent);
}

import { type Backoff, type Deadline, sleep } from '@countersign/retry';
import type { Dispatcher } from 'undici';
import type { StopReason } from './errors.ts';
import {
  type AttemptEvent,
  attemptChannel,
  type BudgetEvent,
  budgetChannel,
  type CallIdentity,
  type RetryEvent,
  retryChannel,
} from './events.ts';
import { type Answer, type ExchangeLimits, exchange, isAnswer, type Outcome } from './exchange.ts';
import { balanceOf, breakerOpen, failure, failureName, interrupted } from './failure.ts';
import type { ResponseHeaders } from './headers.ts';
import { hedge } from './hedge.ts';
import type { OriginState } from './origin.ts';
import { advise, isAtWork, originSucceeded, waitBefore } from './retry-policy.ts';

/** One call, whatever the number of attempts it takes. */
export interface Order {
  readonly identity: CallIdentity;
  readonly dispatch: Dispatcher.Dispatch;
  readonly target: { readonly origin: string; readonly path: string };
  readonly headers: Readonly<Record<string, string>>;
  readonly payload: Dispatcher.DispatchOptions['body'];
  /** Whether the body can be sent again. */
  readonly replayable: boolean;
  /** Whether a second attempt has at most the effect of the first. */
  readonly repeatable: boolean;
  readonly deadline: Deadline;
  /** The header that tells the callee how much time is left; `undefined` for none. */
  readonly deadlineHeader: string | undefined;
  readonly signal: AbortSignal | undefined;
  /** Gets the final response as it arrives; then `Ending.answer` has no body. */
  readonly receiver?: Dispatcher.DispatchHandler;
}

/** What bounds attempts. */
export interface AttemptPolicy {
  readonly maxAttempts: number;
  readonly backoff: Backoff;
  readonly attemptTimeoutMs: number;
  readonly maxResponseBytes: number;
  readonly maxErrorBytes: number;
  /** When a second attempt of a safe call is sent beside a slow first one; `undefined`: never. */
  readonly hedgeAfterMs: number | undefined;
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
  let attempts = 0;

  function plan(outcome: Outcome, made: number): Plan {
    const advice = advise(outcome, policy.now());
    const stop = (stopped: StopReason): Plan => ({ stopped, retryAfterMs: advice.retryAfterMs });
    if (!advice.repeat) return stop(advice.why);
    if (!order.repeatable) return stop('not_repeatable');
    if (made >= policy.maxAttempts) return stop('attempts_exhausted');
    if (breaker?.state === 'open') return stop('breaker_open');
    const backoffMs = policy.backoff(made, waitedMs);
    const waitMs = waitBefore(backoffMs, advice.retryAfterMs, deadline.remaining());
    if (waitMs === undefined) return stop('deadline');
    if (budget && budget.balance < 1) return stop('budget_exhausted');
    return { stopped: undefined, retryAfterMs: advice.retryAfterMs, waitMs, backoffMs };
  }

  const receiver = order.receiver;
  const receiveIfLast =
    receiver &&
    ((status: number, headers: ResponseHeaders) =>
      plan(head(status, headers), attempts + 1).stopped === undefined ? undefined : receiver);

  for (;;) {
    if (signal?.aborted) throw interrupted(signal.reason, signal, attempts);
    if (deadline.remaining() === 0) throw interrupted(deadline.signal.reason, signal, attempts);
    const ticket = breaker?.tryEnter() ?? 0;
    if (breaker && ticket === 0) throw breakerOpen(state, attempts);
    const { outcome, sent } = await send(order, attempts + 1, policy, state, receiveIfLast);
    attempts += sent;
    breaker?.leave(ticket, originSucceeded(outcome));
    if (isAtWork(outcome)) budget?.succeeded();

    const next = plan(outcome, attempts);
    const granted = next.stopped === undefined && (budget?.tryWithdraw() ?? true);
    if (next.stopped !== undefined || !granted) {
      const stopped = next.stopped ?? 'budget_exhausted';
      if (stopped === 'budget_exhausted') announceExhaustion(order, state);
      if (!isAnswer(outcome)) {
        throw failure(outcome, deadline, { attempts, stopped, ...balanceOf(state) });
      }
      return { answer: outcome, attempts, stopped, retryAfterMs: next.retryAfterMs };
    }
    waitedMs = next.backoffMs;
    announceRetry(order, attempts, next.waitMs, next.retryAfterMs, state);
    if (next.waitMs > 0) {
      try {
        await sleep(next.waitMs, deadline.signal);
      } catch (error) {
        throw interrupted(error, signal, attempts);
      }
    }
  }
}

/** What comes after an outcome: nothing, and why, or another attempt after a wait. */
type Plan =
  | { readonly stopped: StopReason; readonly retryAfterMs: number | undefined }
  | {
      readonly stopped: undefined;
      readonly retryAfterMs: number | undefined;
      readonly waitMs: number;
      readonly backoffMs: number;
    };

const NOTHING = Buffer.alloc(0);

/** An answer of which only the head is there. */
function head(status: number, headers: ResponseHeaders): Answer {
  return { status, headers, body: NOTHING, truncated: false, received: false };
}

/** One attempt, or two when the first is slow and the call is hedged. */
async function send(
  order: Order,
  attempt: number,
  policy: AttemptPolicy,
  state: OriginState,
  receiver: ExchangeLimits['receiver'],
): Promise<{ readonly outcome: Outcome; readonly sent: number }> {
  const { hedgeAfterMs } = policy;
  const { method } = order.identity;
  if (hedgeAfterMs === undefined || receiver || !SAFE_METHODS.has(method)) {
    const limits = limitsOf(order, policy);
    const outcome = await attemptOnce(order, attempt, receiver ? { ...limits, receiver } : limits);
    return { outcome, sent: 1 };
  }
  return hedge(
    (signal, index) => attemptOnce(order, attempt + index, { ...limitsOf(order, policy), signal }),
    {
      afterMs: hedgeAfterMs,
      signal: order.signal,
      // A hedge is load that the call alone would not have made: it is paid for like a retry.
      // And a circuit that is not closed lets nothing more through.
      mayHedge: () => {
        if ((state.breaker?.state ?? 'closed') !== 'closed') return false;
        if (state.budget?.tryWithdraw() ?? true) return true;
        announceExhaustion(order, state);
        return false;
      },
      isGood: (outcome) => isAnswer(outcome) && outcome.status < 500 && outcome.status !== 429,
      // The one that says to wait longer: it was told to this call, whichever attempt heard it.
      worse: (one, other) => (toldToWait(one, policy) > toldToWait(other, policy) ? one : other),
    },
  );
}

function toldToWait(outcome: Outcome, { now }: AttemptPolicy): number {
  return advise(outcome, now()).retryAfterMs ?? -1;
}

function limitsOf({ deadline, signal }: Order, policy: AttemptPolicy): ExchangeLimits {
  const { attemptTimeoutMs, maxResponseBytes, maxErrorBytes } = policy;
  const leftMs = Math.ceil(deadline.remaining());
  const untilDeadline = leftMs <= attemptTimeoutMs;
  const timeoutMs = untilDeadline ? leftMs : attemptTimeoutMs;
  return { timeoutMs, untilDeadline, maxResponseBytes, maxErrorBytes, signal };
}

async function attemptOnce(
  order: Order,
  attempt: number,
  limits: ExchangeLimits,
): Promise<Outcome> {
  const { target, identity, payload, deadline, deadlineHeader, dispatch } = order;
  const startedAt = performance.now();
  const headers =
    deadlineHeader === undefined
      ? order.headers
      : { ...order.headers, [deadlineHeader]: `${Math.ceil(deadline.remaining())}` };
  const { origin, path } = target;
  const outcome = await exchange(
    dispatch,
    { origin, path, method: identity.method, headers, body: payload ?? null },
    limits,
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

const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

function announceExhaustion({ identity: { requestId } }: Order, { origin }: OriginState): void {
  if (!budgetChannel.hasSubscribers) return;
  budgetChannel.publish({ origin, requestId } satisfies BudgetEvent);
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

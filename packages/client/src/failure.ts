import type { Deadline } from '@countersign/retry';
import { ClientError, type ClientErrorCode, type ClientErrorDetails } from './errors.ts';
import { type Failure, isTooLarge } from './exchange.ts';
import type { OriginState } from './origin.ts';
import { isNetworkError } from './retry-policy.ts';

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

/** What an event calls it. */
export function failureName({ kind, error }: Failure): string {
  if (kind !== 'error') return kind;
  const { code } = error as { code?: unknown };
  return typeof code === 'string' ? code : error.name;
}

/** The error that an attempt without an answer is. */
export function failure(
  outcome: Failure,
  deadline: Deadline,
  details: ClientErrorDetails,
): ClientError {
  const [code, message] = describe(outcome, deadline.remaining() <= 0);
  // A parser's error carries the bytes that it could not read, which are not for logs.
  const quotesResponse = outcome.error.name === 'HTTPParserError';
  return new ClientError(
    code,
    message,
    { ...details, ...saidBy(outcome.error) },
    quotesResponse ? {} : { cause: outcome.error },
  );
}

/** What a layer inside of a retrying one knows better. */
function saidBy(error: Error): Pick<ClientErrorDetails, 'stopped' | 'retryAfterMs'> {
  if (!(error instanceof ClientError)) return {};
  const { stopped, retryAfterMs } = error;
  return {
    ...(stopped === undefined ? {} : { stopped }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
}

function describe(
  { kind, error, begun = false, byDeadline = false }: Failure,
  deadlinePassed: boolean,
): readonly [ClientErrorCode, string] {
  switch (kind) {
    case 'aborted':
      return ['ERR_CLIENT_ABORTED', 'the caller gave up'];
    case 'too_large':
      return ['ERR_CLIENT_RESPONSE_TOO_LARGE', error.message];
    case 'timeout':
      return byDeadline || deadlinePassed
        ? ['ERR_CLIENT_DEADLINE_EXCEEDED', 'the deadline has passed']
        : ['ERR_CLIENT_ATTEMPT_TIMEOUT', error.message];
    case 'error':
      // Of one of our own interceptors: it has said already what it is.
      if (error instanceof ClientError) return [error.code, error.message];
      if (isTooLarge(error)) {
        return ['ERR_CLIENT_RESPONSE_TOO_LARGE', error.message];
      }
      return isNetworkError(error) || begun
        ? ['ERR_CLIENT_NETWORK', `the connection failed (${failureName({ kind, error })})`]
        : ['ERR_CLIENT_NOT_SENT', `the request could not be made: ${error.message}`];
  }
}

export function queueFull(origin: string): ClientError {
  const message = `too many calls to ${origin} are waiting`;
  return new ClientError('ERR_CLIENT_QUEUE_FULL', message, { attempts: 0, stopped: 'final' });
}

export function breakerOpen(state: OriginState, attempts: number): ClientError {
  const retryAfterMs = state.breaker?.retryInMs ?? 0;
  return new ClientError(
    'ERR_CLIENT_BREAKER_OPEN',
    `${state.origin} has been failing; it is tried again in ${Math.ceil(retryAfterMs)} ms`,
    { attempts, retryAfterMs, stopped: 'breaker_open', ...balanceOf(state) },
  );
}

/** What an error says of the origin's budget. */
export function balanceOf({ budget }: OriginState): Pick<ClientErrorDetails, 'budgetBalance'> {
  return budget ? { budgetBalance: budget.balance } : {};
}

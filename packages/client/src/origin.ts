import { type RetryBudget, type RetryBudgetOptions, retryBudget } from '@countersign/retry';
import { type Breaker, type BreakerOptions, circuitBreaker } from './breaker.ts';
import { type ConcurrencyBound, type ConcurrencyOptions, concurrencyBound } from './concurrency.ts';
import { type BreakerEvent, breakerChannel } from './events.ts';

/** What calls to one origin share: one origin's trouble must not use up what another's calls need. */
export interface OriginState {
  readonly origin: string;
  readonly budget: RetryBudget | undefined;
  readonly breaker: Breaker | undefined;
  readonly bound: ConcurrencyBound | undefined;
}

/** `false` switches a policy off. */
export interface OriginPolicies {
  readonly budget: RetryBudgetOptions | RetryBudget | false;
  readonly breaker: BreakerOptions | false;
  readonly concurrency: ConcurrencyOptions | false;
}

/** @throws TypeError when an option is not what it must be. */
export function originState(origin: string, policies: OriginPolicies): OriginState {
  const { budget, breaker, concurrency } = policies;
  return {
    origin,
    budget: (budget && ('tryWithdraw' in budget ? budget : retryBudget(budget))) || undefined,
    breaker: breaker
      ? circuitBreaker(breaker, (state) => {
          if (breakerChannel.hasSubscribers) {
            breakerChannel.publish({ origin, state } satisfies BreakerEvent);
          }
        })
      : undefined,
    bound: concurrency ? concurrencyBound(concurrency) : undefined,
  };
}

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

/** There can be any number of origins; what is known of those that were not asked for longest is forgotten. */
const REMEMBERED_ORIGINS = 100;

/** Retries that a quiet caller may make on top of the ratio until a call succeeds: enough for three calls in trouble. */
const RESERVE = 10;

/** What is known of each origin. */
export function originStates(policies: OriginPolicies): (origin: string) => OriginState {
  const states = new Map<string, OriginState>();
  return (origin) => {
    const known = states.get(origin);
    if (known && states.size === 1) return known;
    const state = known ?? originState(origin, policies);
    // To the end: a Map keeps the order in which its entries were set.
    states.delete(origin);
    states.set(origin, state);
    if (states.size > REMEMBERED_ORIGINS) forgetOne(states);
    return state;
  };
}

/** The one that was not asked for longest, unless its requests are still counted. */
function forgetOne(states: Map<string, OriginState>): void {
  for (const [origin, { bound }] of states) {
    if (bound && bound.running > 0) continue;
    states.delete(origin);
    return;
  }
}

/** @throws TypeError when an option is not what it must be. */
function originState(origin: string, policies: OriginPolicies): OriginState {
  const budget = optionsOf('budget', policies.budget);
  const breaker = optionsOf('breaker', policies.breaker);
  const concurrency = optionsOf('concurrency', policies.concurrency);
  return {
    origin,
    budget: budget ? budgetOf(budget) : undefined,
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

function budgetOf(budget: RetryBudgetOptions | RetryBudget): RetryBudget {
  if (!('tryWithdraw' in budget)) {
    return retryBudget({ ...budget, reserve: budget.reserve ?? RESERVE });
  }
  // Asked after the server has answered: by then it is too late to learn that one is not there.
  for (const name of ['deposit', 'tryWithdraw', 'succeeded'] as const) {
    if (typeof budget[name] !== 'function') {
      throw new TypeError(
        `budget.${name} must be a function: give the options of one, or a RetryBudget`,
      );
    }
  }
  return budget;
}

/**
 * The options of a policy, or `false`. Nothing else that is falsy switches one off, and no number is taken for all defaults.
 * @throws TypeError when it is neither.
 */
export function optionsOf<T extends object | false>(name: string, options: T): T {
  if (options === false || (typeof options === 'object' && options !== null)) return options;
  throw new TypeError(`${name} must be an object with options`);
}

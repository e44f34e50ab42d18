import { RateLimitError } from './errors.ts';

/** @throws RateLimitError unless it can be charged. */
export function assertCost(cost: number): void {
  if (!Number.isSafeInteger(cost) || cost < 1) throw badCost('the cost', 1);
}

/** @throws RateLimitError unless it is what something may have cost in the end: nothing, too. */
export function assertActualCost(cost: number): void {
  if (!Number.isSafeInteger(cost) || cost < 0) throw badCost('the actual cost', 0);
}

function badCost(what: string, least: number): RateLimitError {
  return new RateLimitError(
    'ERR_RATE_LIMIT_COST',
    `${what} must be an integer of at least ${least}`,
  );
}

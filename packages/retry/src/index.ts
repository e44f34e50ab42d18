export { type Backoff, type BackoffOptions, exponentialBackoff } from './backoff.ts';
export { type RetryBudget, type RetryBudgetOptions, retryBudget } from './budget.ts';
export { type Deadline, type DeadlineOptions, deadline, sleep } from './deadline.ts';
export { RetryError, type RetryErrorCode } from './errors.ts';
export { parseHttpDate } from './http-date.ts';
export { parseRetryAfter } from './retry-after.ts';

export type { Decision, DecisionSource } from './decision.ts';
export { RateLimitError, type RateLimitErrorCode, type RateLimitErrorOptions } from './errors.ts';
export type {
  RefusedEvent,
  RestrictedEvent,
  StoreFailedEvent,
  StoreRecoveredEvent,
} from './events.ts';
export type { OnStoreError } from './fallback.ts';
export { type HeaderLine, type RateLimitHeadersOptions, rateLimitHeaders } from './headers.ts';
export type { LeaseOptions } from './lease.ts';
export { createRateLimiter } from './limiter.ts';
export {
  type MemoryRateLimitStore,
  type MemoryRateLimitStoreOptions,
  memoryRateLimitStore,
} from './memory.ts';
export {
  type HeaderLookup,
  parseRateLimitHeaders,
  type ServerLimit,
  type ServerLimits,
} from './parse-headers.ts';
export {
  type ConcurrencyOptions,
  concurrency,
  defaultTiers,
  fixedWindow,
  type Policy,
  type PolicyKind,
  type PolicySet,
  slidingLog,
  slidingWindow,
  type TokenBucketOptions,
  tokenBucket,
  type WindowOptions,
} from './policy.ts';
export type { PolicySetInput } from './policy-set.ts';
export type {
  AcquireOptions,
  CheckOptions,
  RateLimiter,
  RateLimiterOptions,
  Reservation,
  RestrictOptions,
  SettleOptions,
  SlotOptions,
} from './rate-limiter.ts';
export type {
  ConsumeMode,
  PolicyStatus,
  RateLimitStore,
  StateKey,
  StoreAnswer,
} from './store.ts';

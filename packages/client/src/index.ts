export { type ApiKeyOptions, type ApiKeySource, apiKey } from './api-key.ts';
export type { ByteStream, RequestBody } from './body.ts';
export { type Breaker, type BreakerOptions, type BreakerState, circuitBreaker } from './breaker.ts';
export { type Client, type ClientResponse, createClient } from './client.ts';
export {
  type ConcurrencyBound,
  type ConcurrencyOptions,
  concurrencyBound,
} from './concurrency.ts';
export {
  ClientError,
  type ClientErrorCode,
  type ClientErrorDetails,
  type Problem,
  type SchemaIssue,
  type StopReason,
} from './errors.ts';
export type {
  AttemptEvent,
  BreakerEvent,
  BudgetEvent,
  CallEvent,
  CallIdentity,
  RetryEvent,
} from './events.ts';
export type { ResponseHeaders } from './headers.ts';
export { type IdempotencyOptions, idempotencyKey } from './idempotency-key.ts';
export type { ClientOptions, RequestOptions, RetryOptions } from './options.ts';
export type { Recovery } from './recovery.ts';
export type { ReadAs } from './response.ts';
export type { SchemaResult, StandardSchema } from './standard-schema.ts';
export type { JournalEntry, JournalStore } from './store.ts';

export { IdempotencyError, type IdempotencyErrorCode } from './errors.ts';
export type { IdempotencyEvents } from './events.ts';
export {
  createIdempotency,
  type Execution,
  type Idempotency,
  type JobOptions,
  type JobRecovery,
  type RunResult,
  type UnknownOutcome,
} from './idempotency.ts';
export { type KeyOptions, parseIdempotencyKey } from './key.ts';
export {
  type MemoryIdempotencyStore,
  type MemoryStoreOptions,
  memoryIdempotencyStore,
} from './memory.ts';
export type { IdempotencyOptions } from './settings.ts';
export type { Begun, Claim, HeldClaim, IdempotencyStore } from './store.ts';
export { defaultReplayHeaders } from './stored-response.ts';

export type { ScriptArgument } from './call.ts';
export { withDeadline } from './deadline.ts';
export {
  type StoreErrorCode,
  type StoreErrorOptions,
  type StoreOutcome,
  StoreUnavailableError,
} from './errors.ts';
export type { BatchEvent, FailureEvent, ReloadEvent } from './events.ts';
export { type CallOptions, type Script, type ScriptOptions, script } from './script.ts';
export { assertRedisClient, type RedisClient } from './topology.ts';

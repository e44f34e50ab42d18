import { type Channel, channel } from 'node:diagnostics_channel';
import type { BreakerState } from './breaker.ts';
import type { ClientErrorCode, StopReason } from './errors.ts';

/** Common to the events of one call. The path is without its query. */
export interface CallIdentity {
  readonly requestId: string;
  readonly method: string;
  readonly origin: string;
  readonly path: string;
  readonly idempotencyKey?: string;
}

/** Published on `countersign:client:call` when a call is over. */
export interface CallEvent extends CallIdentity {
  readonly attempts: number;
  readonly durationMs: number;
  readonly status?: number;
  readonly error?: ClientErrorCode;
  readonly stopped?: StopReason;
}

/** Published on `countersign:client:attempt` when an attempt is over. */
export interface AttemptEvent extends CallIdentity {
  readonly attempt: number;
  readonly durationMs: number;
  readonly status?: number;
  /** `timeout`, `aborted`, `too_large`, or the code of the network's error. */
  readonly failure?: string;
}

/** Published on `countersign:client:retry` before the wait for the next attempt. */
export interface RetryEvent extends CallIdentity {
  /** The attempt that failed. */
  readonly attempt: number;
  readonly waitMs: number;
  readonly retryAfterMs?: number;
  readonly budgetBalance?: number;
}

/** Published on `countersign:client:breaker` when a circuit changes its state. */
export interface BreakerEvent {
  readonly origin: string;
  readonly state: BreakerState;
}

/** Published on `countersign:client:budget` when a retry or a hedge was wanted and the budget was empty. */
export interface BudgetEvent {
  readonly origin: string;
  readonly requestId: string;
}

const callChannel: Channel = channel('countersign:client:call');
export const attemptChannel: Channel = channel('countersign:client:attempt');
export const retryChannel: Channel = channel('countersign:client:retry');
export const breakerChannel: Channel = channel('countersign:client:breaker');
export const budgetChannel: Channel = channel('countersign:client:budget');

export function announceCall(
  identity: CallIdentity,
  startedAt: number,
  outcome: Omit<CallEvent, keyof CallIdentity | 'durationMs'>,
): void {
  if (!callChannel.hasSubscribers) return;
  const durationMs = performance.now() - startedAt;
  callChannel.publish({ ...identity, ...outcome, durationMs } satisfies CallEvent);
}

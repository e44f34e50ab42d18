import { concurrencyAlgorithm } from './concurrency.ts';
import { fixedWindowAlgorithm } from './fixed-window.ts';
import type { Policy, PolicyKind } from './policy.ts';
import { slidingLogAlgorithm } from './sliding-log.ts';
import { slidingWindowAlgorithm } from './sliding-window.ts';
import type { PolicyState } from './state.ts';
import { tokenBucketAlgorithm } from './token-bucket.ts';

/** How one kind of policy counts. Every function but `advance` expects a state that was advanced to `nowUs`. */
export interface Algorithm {
  /**
   * Brings the state to a moment. When the clock stepped back, what is charged stays charged and nothing is refilled.
   * @returns whether the state said what cannot be, and was corrected.
   */
  advance(policy: Policy, state: PolicyState, nowUs: number): boolean;
  /** Until `cost` (at most the limit) can be had; 0: now. */
  waitUs(policy: Policy, state: PolicyState, nowUs: number, cost: number): number;
  take(policy: Policy, state: PolicyState, nowUs: number, cost: number, slot: number): void;
  give(state: PolicyState, cost: number, slot: number): void;
  /** What is charged at this moment. */
  used(policy: Policy, state: PolicyState, nowUs: number): number;
  /** Until nothing is charged any more. */
  clearUs(policy: Policy, state: PolicyState, nowUs: number): number;
}

const algorithms: Readonly<Record<PolicyKind, Algorithm>> = {
  'token-bucket': tokenBucketAlgorithm,
  'sliding-window': slidingWindowAlgorithm,
  'sliding-log': slidingLogAlgorithm,
  'fixed-window': fixedWindowAlgorithm,
  concurrency: concurrencyAlgorithm,
};

const none: number[] = [];

export function freshState(kind: PolicyKind, windowUs: number): PolicyState {
  const listed = kind === 'sliding-log' || kind === 'concurrency';
  const entries = listed ? [] : none;
  return { kind, algorithm: algorithms[kind], windowUs, at: 0, used: 0, previous: 0, entries };
}

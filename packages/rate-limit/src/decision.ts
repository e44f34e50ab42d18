import type { CompiledSet } from './policy-set.ts';
import type { PolicyStatus, StoreAnswer } from './store.ts';

/**
 * - `store`: the store decided.
 * - `local`: this process decided, from tokens it had leased or by the deny list.
 * - `blocked`: this process decided, from an earlier refusal that still holds.
 * - `degraded`: the store could not be asked; `onStoreError` decided.
 */
export type DecisionSource = 'store' | 'local' | 'blocked' | 'degraded';

/** Whether a request may go on, and where its subject stands. */
export interface Decision {
  readonly allowed: boolean;
  /** The name of the set that was asked. */
  readonly policy: string;
  /** Of the limit that binds: the one that refused for longest, or else the one with the least left. */
  readonly limit: number;
  readonly remaining: number;
  /** Milliseconds until everything can be had again, if nothing else is charged. */
  readonly resetMs: number;
  /** Milliseconds until the same request can be granted; 0 when it was, `Infinity` when it never can be. */
  readonly retryAfterMs: number;
  /** The cost is more than a policy can ever grant. */
  readonly impossible: boolean;
  /** The subject is on the deny list. */
  readonly denied: boolean;
  /** The set is in shadow mode and would have refused. */
  readonly shadowed: boolean;
  readonly source: DecisionSource;
  /** The slot that was taken from a concurrency policy, for `release` and `renew`; 0: none. */
  readonly slot: number;
  /** Each limit of the set; empty when none could be asked. */
  readonly policies: readonly PolicyStatus[];
}

export function decide(
  set: CompiledSet,
  answer: StoreAnswer,
  source: DecisionSource,
  slot: number,
  impossible: boolean,
): Decision {
  const { policies, pausedMs } = answer;
  const granted = answer.granted && !impossible;
  const binding =
    policies.length === 1 ? (policies[0] as PolicyStatus) : bindingOf(policies, granted);
  return {
    allowed: granted || set.shadow,
    policy: set.name,
    limit: binding.limit,
    remaining: binding.remaining,
    resetMs: binding.resetMs,
    retryAfterMs: granted ? 0 : Math.max(pausedMs, binding.retryAfterMs),
    impossible,
    denied: false,
    shadowed: set.shadow && !granted,
    source,
    slot: granted ? slot : 0,
    policies,
  };
}

function bindingOf(policies: readonly PolicyStatus[], granted: boolean): PolicyStatus {
  return policies.reduce((binding, candidate) =>
    binds(candidate, binding, granted) ? candidate : binding,
  );
}

function binds(candidate: PolicyStatus, binding: PolicyStatus, granted: boolean): boolean {
  return granted || candidate.retryAfterMs === binding.retryAfterMs
    ? candidate.remaining < binding.remaining
    : candidate.retryAfterMs > binding.retryAfterMs;
}

/**
 * What the store was charged for a request that passed, once it is known what it cost: where that was nothing, because the store
 * could not be asked or refused in shadow mode, there is nothing to charge more or less of.
 */
export function chargedCost(
  { source, shadowed }: Decision,
  estimate: number,
  actualCost: number,
): number {
  return source === 'degraded' || shadowed ? actualCost : estimate;
}

/** A decision that no limit was asked for. */
export function decideWithoutLimits(
  set: CompiledSet,
  verdict: Pick<Decision, 'allowed' | 'retryAfterMs' | 'denied' | 'source'>,
): Decision {
  const tightest = set.limits.reduce((least, policy) =>
    policy.limit < least.limit ? policy : least,
  );
  return {
    ...verdict,
    policy: set.name,
    limit: tightest.limit,
    remaining: verdict.allowed ? tightest.limit : 0,
    resetMs: 0,
    impossible: false,
    shadowed: false,
    slot: 0,
    policies: [],
  };
}

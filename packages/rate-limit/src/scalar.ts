import type { Policy } from './policy.ts';
import { type PolicyState, tolerance } from './state.ts';
import type { PolicyStatus } from './store.ts';
import { drainUs } from './token-bucket.ts';

// The path of every request that is granted, for the kinds whose state is a few numbers: what their algorithms do in five
// calls, with the same arithmetic in the same order, in two.

/** Whether the cost fits. Changes nothing; `false` also for what only the algorithms can do, like turning to the next window. */
export function fits(policy: Policy, state: PolicyState, nowUs: number, cost: number): boolean {
  const { kind, limit, windowUs } = policy;
  const { at, used } = state;
  if (cost > limit || nowUs < at) return false;
  if (kind === 'token-bucket') return levelAt(policy, state, nowUs) + cost - limit <= tolerance;
  if (nowUs >= at + windowUs) return false;
  if (kind === 'fixed-window') return used + cost <= limit;
  if (kind !== 'sliding-window') return false;
  const weighted = (state.previous * (windowUs - (nowUs - at))) / windowUs;
  return weighted + used + cost <= limit + tolerance;
}

/** Charges what fits. */
export function charge(
  policy: Policy,
  state: PolicyState,
  nowUs: number,
  cost: number,
): PolicyStatus {
  const { name, limit, windowSeconds, windowUs } = policy;
  let used = state.used + cost;
  let clearUs = windowUs - (nowUs - state.at);
  let left = limit - used;
  if (policy.kind === 'token-bucket') {
    used = levelAt(policy, state, nowUs) + cost;
    left = limit - used;
    clearUs = drainUs(used, policy.refillPerSecond);
    state.at = nowUs;
  } else if (policy.kind === 'sliding-window') {
    left = limit - ((state.previous * clearUs) / windowUs + used);
    clearUs += windowUs;
  }
  state.used = used;
  return {
    name,
    limit,
    windowSeconds,
    concurrent: false,
    remaining: left > 0 ? Math.floor(left + tolerance) : 0,
    resetMs: Math.ceil(Math.ceil(clearUs) / 1000),
    retryAfterMs: 0,
  };
}

function levelAt({ refillPerSecond }: Policy, { at, used }: PolicyState, nowUs: number): number {
  return Math.max(0, used - ((nowUs - at) * refillPerSecond) / 1e6);
}

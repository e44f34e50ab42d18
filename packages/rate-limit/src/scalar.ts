import type { Policy } from './policy.ts';
import { type PolicyState, tolerance } from './state.ts';
import type { PolicyStatus } from './store.ts';

// The path of every request that is granted, for the kinds whose state is a few numbers: what their algorithms do in five
// calls, with the same arithmetic in the same order, in two.

/** Brings the state to a moment and says whether the cost fits; `false` also for what only the algorithms can do. */
export function fits(policy: Policy, state: PolicyState, nowUs: number, cost: number): boolean {
  const { limit, windowUs } = policy;
  if (cost > limit || nowUs < state.at) return false;
  switch (policy.kind) {
    case 'token-bucket': {
      const level = state.used - ((nowUs - state.at) * policy.refillPerSecond) / 1e6;
      state.used = Math.max(0, level);
      state.at = nowUs;
      return state.used + cost - limit <= tolerance;
    }
    case 'sliding-window': {
      if (nowUs >= state.at + windowUs) turn(state, nowUs, windowUs);
      const weighted = (state.previous * (windowUs - (nowUs - state.at))) / windowUs;
      return weighted + state.used + cost <= limit + tolerance;
    }
    case 'fixed-window':
      if (nowUs >= state.at + windowUs) {
        turn(state, nowUs, windowUs);
        state.previous = 0;
      }
      return state.used + cost <= limit;
    default:
      return false;
  }
}

/** Charges what fits. */
export function charge(
  policy: Policy,
  state: PolicyState,
  nowUs: number,
  cost: number,
): PolicyStatus {
  const { name, limit, windowSeconds, windowUs } = policy;
  state.used += cost;
  const { used } = state;
  let left = limit - used;
  let clearUs = windowUs - (nowUs - state.at);
  if (policy.kind === 'token-bucket') {
    clearUs = ((used > tolerance / 2 ? used - tolerance / 2 : 0) * 1e6) / policy.refillPerSecond;
  } else if (policy.kind === 'sliding-window') {
    left = limit - ((state.previous * clearUs) / windowUs + used);
    clearUs += windowUs;
  }
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

function turn(state: PolicyState, nowUs: number, windowUs: number): void {
  const start = nowUs - (nowUs % windowUs);
  state.previous = start === state.at + windowUs ? state.used : 0;
  state.used = 0;
  state.at = start;
}

import type { Algorithm } from './algorithm.ts';
import { tolerance } from './state.ts';

export const tokenBucketAlgorithm: Algorithm = {
  advance({ refillPerSecond }, state, nowUs) {
    const { at } = state;
    if (nowUs > at) state.used = Math.max(0, state.used - ((nowUs - at) * refillPerSecond) / 1e6);
    state.at = nowUs;
    return nowUs < at;
  },
  waitUs({ limit, refillPerSecond }, { used }, _nowUs, cost) {
    const missing = used + cost - limit;
    return missing <= tolerance ? 0 : drainUs(missing, refillPerSecond);
  },
  take(_policy, state, _nowUs, cost) {
    state.used += cost;
  },
  give(state, cost) {
    state.used = Math.max(0, state.used - cost);
  },
  used: (_policy, { used }) => used,
  clearUs: ({ refillPerSecond }, { used }) => drainUs(used, refillPerSecond),
};

/** Without the half of the tolerance, the rounding of a sum could make a whole number of microseconds one more. */
export function drainUs(tokens: number, refillPerSecond: number): number {
  return Math.ceil((Math.max(0, tokens - tolerance / 2) * 1e6) / refillPerSecond);
}

import type { Algorithm } from './algorithm.ts';
import { longestWindowSeconds } from './policy.ts';
import { tolerance } from './state.ts';

export const tokenBucketAlgorithm: Algorithm = {
  advance({ refillPerSecond }, state, nowUs) {
    const { at } = state;
    if (nowUs > at) state.used = Math.max(0, state.used - ((nowUs - at) * refillPerSecond) / 1e6);
    const level = state.used;
    state.used = owed(level, refillPerSecond);
    state.at = nowUs;
    return nowUs < at || state.used < level;
  },
  waitUs({ limit, refillPerSecond }, { used }, _nowUs, cost) {
    const missing = used + cost - limit;
    return missing <= tolerance ? 0 : drainUs(missing, refillPerSecond);
  },
  take({ refillPerSecond }, state, _nowUs, cost) {
    state.used = owed(state.used + cost, refillPerSecond);
  },
  give(state, cost) {
    state.used = Math.max(0, state.used - cost);
  },
  used: (_policy, { used }) => used,
  clearUs: ({ refillPerSecond }, { used }) => drainUs(used, refillPerSecond),
};

/**
 * What a bucket may be overdrawn by, however much was charged by force or at a faster rate: nobody is locked out for longer, and
 * the life of a key stays within what Redis takes. Twice what a bucket may take to fill, so no granted charge ever meets it.
 */
export const longestDebtSeconds: number = 2 * longestWindowSeconds;

function owed(level: number, refillPerSecond: number): number {
  return Math.min(level, refillPerSecond * longestDebtSeconds);
}

/** Without the half of the tolerance, the rounding of a sum could make a whole number of microseconds one more. */
export function drainUs(tokens: number, refillPerSecond: number): number {
  return Math.ceil((Math.max(0, tokens - tolerance / 2) * 1e6) / refillPerSecond);
}

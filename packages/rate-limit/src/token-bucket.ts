import type { Algorithm } from './algorithm.ts';
import { tolerance } from './state.ts';

export const tokenBucketAlgorithm: Algorithm = {
  advance({ refillPerSecond }, state, nowUs) {
    if (nowUs > state.at)
      state.used = Math.max(0, state.used - ((nowUs - state.at) * refillPerSecond) / 1e6);
    state.at = nowUs;
  },
  waitUs({ limit, refillPerSecond }, { used }, _nowUs, cost) {
    const missing = used + cost - limit;
    return missing <= tolerance ? 0 : Math.ceil((missing * 1e6) / refillPerSecond);
  },
  take(_policy, state, _nowUs, cost) {
    state.used += cost;
  },
  give(state, cost) {
    state.used = Math.max(0, state.used - cost);
  },
  used: (_policy, { used }) => used,
  clearUs: ({ refillPerSecond }, { used }) => Math.ceil((used * 1e6) / refillPerSecond),
};

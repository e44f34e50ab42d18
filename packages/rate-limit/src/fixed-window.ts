import type { Algorithm } from './algorithm.ts';

export const fixedWindowAlgorithm: Algorithm = {
  advance({ windowUs }, state, nowUs) {
    const { at } = state;
    if (nowUs >= at && nowUs < at + windowUs) return false;
    const start = nowUs - (nowUs % windowUs);
    if (start > at) state.used = 0;
    state.at = start;
    return start < at;
  },
  waitUs({ limit, windowUs }, { at, used }, nowUs, cost) {
    return used + cost <= limit ? 0 : at + windowUs - nowUs;
  },
  take(_policy, state, _nowUs, cost) {
    state.used += cost;
  },
  give(state, cost) {
    state.used = Math.max(0, state.used - cost);
  },
  used: (_policy, { used }) => used,
  clearUs: ({ windowUs }, { at, used }, nowUs) => (used > 0 ? at + windowUs - nowUs : 0),
};

import type { Algorithm } from './algorithm.ts';
import { slidingWindowAlgorithm } from './sliding-window.ts';

/** Keeps what a sliding window keeps; what was charged in the window before counts only when the clock steps back into it. */
export const fixedWindowAlgorithm: Algorithm = {
  ...slidingWindowAlgorithm,
  waitUs({ limit, windowUs }, { at, used }, nowUs, cost) {
    return used + cost <= limit ? 0 : at + windowUs - nowUs;
  },
  used: (_policy, { used }) => used,
  clearUs: ({ windowUs }, { at, used }, nowUs) => (used > 0 ? at + windowUs - nowUs : 0),
};

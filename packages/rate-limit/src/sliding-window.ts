import type { Algorithm } from './algorithm.ts';
import { tolerance } from './state.ts';

export const slidingWindowAlgorithm: Algorithm = {
  advance({ windowUs }, state, nowUs) {
    const { at } = state;
    if (nowUs >= at && nowUs < at + windowUs) return false;
    const start = nowUs - (nowUs % windowUs);
    if (start > at) {
      state.previous = start === at + windowUs ? state.used : 0;
      state.used = 0;
    } else {
      // The clock stepped back: what was charged in the window before would weigh less the further back it went.
      state.used += state.previous;
      state.previous = 0;
    }
    state.at = start;
    return start < at;
  },
  waitUs({ limit, windowUs }, state, nowUs, cost) {
    const elapsed = nowUs - state.at;
    const weighted = (state.previous * (windowUs - elapsed)) / windowUs;
    if (weighted + state.used + cost <= limit + tolerance) return 0;
    // As the window slides, what still weighs of the previous one must shrink into the room that is left.
    const room = limit - state.used - cost;
    if (room >= 0) return Math.ceil(windowUs - (room * windowUs) / state.previous) - elapsed;
    const nextRoom = limit - cost;
    const intoNext = Math.ceil(windowUs - (nextRoom * windowUs) / state.used);
    return windowUs - elapsed + Math.max(0, intoNext);
  },
  take(_policy, state, _nowUs, cost) {
    state.used += cost;
  },
  give(state, cost) {
    const fromPrevious = Math.max(0, cost - state.used);
    state.used = Math.max(0, state.used - cost);
    state.previous = Math.max(0, state.previous - fromPrevious);
  },
  used: ({ windowUs }, state, nowUs) =>
    (state.previous * (windowUs - (nowUs - state.at))) / windowUs + state.used,
  clearUs({ windowUs }, state, nowUs) {
    const left = windowUs - (nowUs - state.at);
    if (state.used > 0) return left + windowUs;
    return state.previous > 0 ? left : 0;
  },
};

import type { Algorithm } from './algorithm.ts';

/** Redis keeps the cost of an entry in four bytes. */
const largestEntry = 2 ** 32 - 1;

export const slidingLogAlgorithm: Algorithm = {
  advance({ windowUs }, state, nowUs) {
    const { entries } = state;
    let gone = 0;
    while (gone < entries.length && (entries[gone] as number) <= nowUs - windowUs) {
      state.used -= entries[gone + 1] as number;
      gone += 2;
    }
    if (gone > 0) entries.splice(0, gone);
    // The clock stepped back: what lies in the future happened at the latest now.
    let corrected = false;
    for (let index = entries.length - 2; index >= 0; index -= 2) {
      if ((entries[index] as number) <= nowUs) break;
      entries[index] = nowUs;
      corrected = true;
    }
    return corrected;
  },
  waitUs({ limit, windowUs }, { used, entries }, nowUs, cost) {
    let excess = used + cost - limit;
    if (excess <= 0) return 0;
    for (let index = 0; index < entries.length; index += 2) {
      excess -= entries[index + 1] as number;
      if (excess <= 0) return (entries[index] as number) + windowUs - nowUs;
    }
    return windowUs;
  },
  take({ limit }, state, nowUs, cost) {
    const { entries } = state;
    const newest = entries.length - 2;
    // What is charged by force has no limit, but its log must have one: then the newest entry is charged anew.
    if (entries[newest] === nowUs || entries.length >= 4 * limit) {
      const charged = entries[newest + 1] as number;
      const together = Math.min(charged + cost, largestEntry);
      entries[newest] = nowUs;
      entries[newest + 1] = together;
      state.used += together - charged;
    } else {
      entries.push(nowUs, cost);
      state.used += cost;
    }
  },
  give(state, cost) {
    const { entries } = state;
    let left = Math.min(cost, state.used);
    state.used -= left;
    while (left > 0) {
      const newest = entries.length - 2;
      const charged = entries[newest + 1] as number;
      if (charged <= left) entries.length = newest;
      else entries[newest + 1] = charged - left;
      left -= Math.min(charged, left);
    }
  },
  used: (_policy, { used }) => used,
  clearUs: ({ windowUs }, { entries }, nowUs) =>
    entries.length === 0 ? 0 : (entries[entries.length - 2] as number) + windowUs - nowUs,
};

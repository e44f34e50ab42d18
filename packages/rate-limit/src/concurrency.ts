import type { Algorithm } from './algorithm.ts';

export const concurrencyAlgorithm: Algorithm = {
  advance({ windowUs }, state, nowUs) {
    const { entries } = state;
    let corrected = false;
    for (let index = entries.length - 2; index >= 0; index -= 2) {
      const end = entries[index + 1] as number;
      if (end <= nowUs) entries.splice(index, 2);
      // The clock stepped back, or leases became shorter: nobody holds a slot for longer than a lease from now.
      else if (end > nowUs + windowUs) {
        entries[index + 1] = nowUs + windowUs;
        corrected = true;
      }
    }
    return corrected;
  },
  waitUs({ limit }, { entries }, nowUs) {
    const held = entries.length / 2;
    if (held < limit) return 0;
    const ends = entries.filter((_, index) => index % 2 === 1).sort((a, b) => a - b);
    return (ends[held - limit] as number) - nowUs;
  },
  take({ windowUs }, { entries }, nowUs, _cost, slot) {
    if (slot !== 0) entries.push(slot, nowUs + windowUs);
  },
  give({ entries }, _cost, slot) {
    for (let index = entries.length - 2; index >= 0; index -= 2) {
      if (entries[index] === slot) entries.splice(index, 2);
    }
  },
  used: (_policy, { entries }) => entries.length / 2,
  clearUs: (_policy, { entries }, nowUs) =>
    entries.reduce(
      (latest, end, index) => (index % 2 === 1 ? Math.max(latest, end) : latest),
      nowUs,
    ) - nowUs,
};

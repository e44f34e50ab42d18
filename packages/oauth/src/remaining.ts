/** What is left of a time that is never longer than `longestMs`; 0 when it is over, and when more is left: then the clock was set back. */
export function remainingMs(untilMs: number, nowMs: number, longestMs: number): number {
  const leftMs = untilMs - nowMs;
  return leftMs > 0 && leftMs <= longestMs ? leftMs : 0;
}

/** A clock that moves only when it is told to. */
export interface FakeClock {
  /** Milliseconds since the Unix epoch; detached use is fine: `createThing({ now: clock.now })`. */
  readonly now: () => number;
  /** Moves the clock forward (or, with a negative number, back). */
  readonly advance: (ms: number) => void;
  /** Puts the clock at a moment. */
  readonly set: (ms: number) => void;
}

/**
 * A clock for everything that takes `now?: () => number`. It drives no timers: use vitest's fake timers for these
 * (`vi.useFakeTimers({ now: clock.now() })`), which also move `Date` for servers running in the same process.
 * @param startMs - where it starts; default 2026-01-01T00:00:00Z.
 */
export function fakeClock(startMs: number = Date.UTC(2026, 0, 1)): FakeClock {
  let current = startMs;
  return {
    now: () => current,
    advance: (ms) => {
      current += ms;
    },
    set: (ms) => {
      current = ms;
    },
  };
}

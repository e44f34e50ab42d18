import { describe, expect, test } from 'vitest';
import { memoryRateLimitStore, tokenBucket } from '../src/index.ts';

/**
 * The tables by which GCRA implementations show what they do. Times in milliseconds from the start; `reset` until the bucket is
 * full again, `retry` until the same cost can be had (-1: it was granted, `Infinity`: never).
 */
interface Row {
  readonly at: number;
  readonly cost: number;
  readonly remaining: number;
  readonly reset: number;
  readonly retry: number;
}

/** The case table of throttled's `TestRateLimit`, which redis-cell tests itself by too: a token a second, a burst of 5. */
const throttled: Row[] = [
  { at: 0, cost: 6, remaining: 5, reset: 0, retry: Number.POSITIVE_INFINITY },
  { at: 0, cost: 1, remaining: 4, reset: 1000, retry: -1 },
  { at: 0, cost: 1, remaining: 3, reset: 2000, retry: -1 },
  { at: 0, cost: 1, remaining: 2, reset: 3000, retry: -1 },
  { at: 0, cost: 1, remaining: 1, reset: 4000, retry: -1 },
  { at: 0, cost: 1, remaining: 0, reset: 5000, retry: -1 },
  { at: 0, cost: 1, remaining: 0, reset: 5000, retry: 1000 },
  { at: 3000, cost: 1, remaining: 2, reset: 3000, retry: -1 },
  { at: 3100, cost: 1, remaining: 1, reset: 3900, retry: -1 },
  { at: 4000, cost: 1, remaining: 1, reset: 4000, retry: -1 },
  { at: 8000, cost: 1, remaining: 4, reset: 1000, retry: -1 },
  { at: 9500, cost: 1, remaining: 4, reset: 1000, retry: -1 },
  // Theirs has a request of volume 0 here, which peeks; ours is `peek`.
  { at: 9500, cost: 2, remaining: 2, reset: 3000, retry: -1 },
  { at: 9500, cost: 5, remaining: 2, reset: 3000, retry: 3000 },
];

/** `CL.THROTTLE user 15 30 60` of redis-cell's README (first row), and what GCRA makes of it: a burst of 16, one token in 2 s. */
const redisCell: Row[] = [
  { at: 0, cost: 1, remaining: 15, reset: 2000, retry: -1 },
  { at: 0, cost: 15, remaining: 0, reset: 32_000, retry: -1 },
  { at: 0, cost: 1, remaining: 0, reset: 32_000, retry: 2000 },
  { at: 1999, cost: 1, remaining: 0, reset: 30_001, retry: 1 },
  { at: 2000, cost: 1, remaining: 0, reset: 32_000, retry: -1 },
  { at: 34_000, cost: 16, remaining: 0, reset: 32_000, retry: -1 },
];

describe.each([
  [
    'the table of throttled and redis-cell',
    tokenBucket({ capacity: 5, refillPerSecond: 1 }),
    throttled,
  ],
  ['the example of redis-cell', tokenBucket({ capacity: 16, refillPerSecond: 0.5 }), redisCell],
] as const)('a token bucket agrees with %s', (_, policy, rows) => {
  let nowMs = Date.UTC(2026, 0, 1);
  const start = nowMs;
  const store = memoryRateLimitStore({ now: () => nowMs });
  const policies = [policy];

  test.each(rows)('at $at ms, cost $cost', ({ at, cost, remaining, reset, retry }) => {
    nowMs = start + at;
    const { granted, policies: statuses } = store.consume('c', 's', policies, cost, 'take', 0, 0);
    expect({ granted, ...statuses[0] }).toMatchObject({
      granted: retry === -1,
      remaining,
      resetMs: reset,
      retryAfterMs: Math.max(0, retry),
    });
  });
});

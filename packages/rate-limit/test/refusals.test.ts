import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  createRateLimiter,
  fixedWindow,
  memoryRateLimitStore,
  type Policy,
  slidingLog,
  slidingWindow,
  tokenBucket,
} from '../src/index.ts';

type Name = 'a' | 'b';

type Step =
  | { readonly do: 'check' | 'refund'; readonly policy: Name; readonly cost: number }
  | {
      readonly do: 'settle';
      readonly policy: Name;
      readonly cost: number;
      readonly actualCost: number;
    }
  | {
      readonly do: 'restrict';
      readonly policy: Name;
      readonly remaining: number;
      readonly durationMs: number;
    }
  | { readonly do: 'reset'; readonly policy: Name }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'override'; readonly limits: readonly Policy[] | undefined };

const limit = fc.integer({ min: 1, max: 6 });
const window = fc.record({ limit, windowSeconds: fc.constantFrom(1, 5, 60) });
const limits: fc.Arbitrary<readonly Policy[]> = fc
  .oneof(
    fc
      .record({ capacity: limit, refillPerSecond: fc.constantFrom(0.3, 1, 5) })
      .map((bucket) => tokenBucket(bucket)),
    window.map((one) => slidingWindow(one)),
    window.map((one) => slidingLog(one)),
    window.map((one) => fixedWindow(one)),
  )
  .map((policy) => [policy]);
const policy = fc.constantFrom<Name[]>('a', 'b');
const cost = fc.integer({ min: 1, max: 5 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 10, arbitrary: fc.record({ do: fc.constant('check' as const), policy, cost }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('refund' as const), policy, cost }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      policy,
      cost,
      actualCost: fc.nat({ max: 8 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('restrict' as const),
      policy,
      remaining: fc.nat({ max: 3 }),
      durationMs: fc.constantFrom(500, 3000, 20_000),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reset' as const), policy }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.constantFrom(1, 333, 1000, 61_000),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('override' as const),
      limits: fc.option(limits, { nil: undefined }),
    }),
  },
);

test('what a process remembers of a refusal is what the store would say, and never sooner, whatever it did in between', async () => {
  await fc.assert(
    fc.asyncProperty(
      limits,
      fc.array(step, { maxLength: 60, size: 'max' }),
      async (first, steps) => {
        const clock = { ms: Date.UTC(2026, 0, 1) };
        const now = (): number => clock.ms;
        const memory = memoryRateLimitStore({ now });
        const shared = { limits: first, counter: 'c' };
        let override: readonly Policy[] | undefined;
        const limiter = createRateLimiter({
          store: {
            ...memory,
            sync: false,
            consume: async (...args) => memory.consume(...args),
          },
          now,
          policies: { a: shared, b: shared },
          overrides: () => override,
        });
        for (const each of steps) {
          if (each.do === 'wait') clock.ms += each.ms;
          else if (each.do === 'override') override = each.limits;
          else if (each.do === 'check') {
            const limits = override ?? first;
            const truth = memory.consume('c', 's', limits, each.cost, 'peek', 0, 0);
            const { allowed, source, retryAfterMs } = await limiter.check('s', each);
            expect(allowed).toBe(truth.granted);
            const waits = truth.policies.map((status) => status.retryAfterMs);
            if (source === 'blocked')
              expect(retryAfterMs).toBeGreaterThanOrEqual(Math.max(truth.pausedMs, ...waits));
          } else if (each.do === 'refund') await limiter.refund('s', each);
          else if (each.do === 'settle') await limiter.settle('s', each);
          else if (each.do === 'restrict') await limiter.restrict('s', each);
          else await limiter.reset('s', each);
        }
      },
    ),
    { numRuns: 500 },
  );
});

import fc from 'fast-check';
import {
  concurrency,
  fixedWindow,
  type Policy,
  type RateLimitStore,
  type StoreAnswer,
  slidingLog,
  slidingWindow,
  tokenBucket,
} from '../src/index.ts';

/** One step of a random program that is run against several stores. */
export type Step =
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'back'; readonly ms: number }
  | { readonly do: 'take' | 'peek' | 'force'; readonly cost: number; readonly slot: number }
  | { readonly do: 'give'; readonly cost: number; readonly slot: number }
  | { readonly do: 'renew'; readonly slot: number }
  | { readonly do: 'restrict'; readonly remaining: number; readonly durationMs: number }
  | { readonly do: 'limits'; readonly policies: readonly Policy[] }
  | { readonly do: 'reset' };

const limit = fc.integer({ min: 1, max: 12 });
const windowSeconds = fc.constantFrom(1, 2, 7, 60);
const policy: fc.Arbitrary<Policy> = fc.oneof(
  fc
    .record({ capacity: limit, refillPerSecond: fc.constantFrom(0.1, 1, 3, 7.5, 1000) })
    .map(tokenBucket),
  fc.record({ limit, windowSeconds }).map(slidingWindow),
  fc.record({ limit, windowSeconds }).map(slidingLog),
  fc.record({ limit, windowSeconds }).map(fixedWindow),
  fc.record({ limit, leaseSeconds: windowSeconds }).map(concurrency),
);
const cost = fc.integer({ min: 1, max: 13 });
const slot = fc.integer({ min: 1, max: 4 });

export const policies: fc.Arbitrary<readonly Policy[]> = fc.array(policy, {
  minLength: 1,
  maxLength: 4,
});

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.oneof(fc.integer({ min: 0, max: 3000 }), fc.constantFrom(0.25, 999.9, 60_000)),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constantFrom('take' as const, 'peek' as const), cost, slot }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('force' as const), cost, slot }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('back' as const),
      ms: fc.constantFrom(0.5, 40, 5000),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('give' as const), cost, slot }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('renew' as const), slot }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('restrict' as const),
      remaining: fc.integer({ min: 0, max: 3 }),
      durationMs: fc.integer({ min: 1, max: 5000 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('limits' as const), policies }) },
  { weight: 1, arbitrary: fc.constant({ do: 'reset' as const }) },
);

export const program: fc.Arbitrary<readonly Step[]> = fc.array(step, {
  maxLength: 40,
  // Otherwise most programs have five steps, and end before anything has happened.
  size: 'max',
});

const timeoutMs = 10_000;

/** What the store answers to each step. */
export async function run(
  store: RateLimitStore,
  clock: { ms: number },
  subject: string,
  first: readonly Policy[],
  steps: readonly Step[],
): Promise<unknown[]> {
  const key = { counter: 'c', subject };
  let limits = first;
  const answers: (StoreAnswer | boolean)[] = [];
  for (const each of steps) {
    // Slot 0 means that no slot is leased.
    const leases = limits.some(({ kind }) => kind === 'concurrency');
    switch (each.do) {
      case 'wait':
        clock.ms += each.ms;
        break;
      case 'back':
        clock.ms -= each.ms;
        break;
      case 'take':
      case 'peek':
      case 'force': {
        const slotTaken = leases ? each.slot : 0;
        answers.push(
          await store.consume('c', subject, limits, each.cost, each.do, slotTaken, timeoutMs),
        );
        break;
      }
      case 'give':
        await store.give(key, limits, each.cost, leases ? each.slot : 0, timeoutMs);
        break;
      case 'renew':
        answers.push(await store.renew(key, limits, each.slot, timeoutMs));
        break;
      case 'restrict':
        await store.restrict(key, limits, each.remaining, each.durationMs, timeoutMs);
        break;
      case 'limits':
        limits = each.policies;
        break;
      case 'reset':
        await store.reset(key, timeoutMs);
        break;
    }
  }
  return answers;
}

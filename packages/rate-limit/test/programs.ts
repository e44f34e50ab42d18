import fc from 'fast-check';
import {
  concurrency,
  fixedWindow,
  type Policy,
  type PolicyKind,
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
  | { readonly do: 'convert'; readonly kinds: readonly PolicyKind[] }
  | { readonly do: 'reset' };

const longestWindowSeconds = 366 * 86_400;
// Mostly small numbers, which programs reach; and the largest there are.
const small = fc.integer({ min: 1, max: 12 });
const limit = fc.oneof(
  { weight: 9, arbitrary: small },
  { weight: 1, arbitrary: fc.constantFrom(10_000, 1e9) },
);
const listedLimit = fc.oneof(
  { weight: 9, arbitrary: small },
  { weight: 1, arbitrary: fc.constant(10_000) },
);
const windowSeconds = fc.constantFrom(1, 2, 7, 60, 3600, longestWindowSeconds);
const policy: fc.Arbitrary<Policy> = fc.oneof(
  fc.tuple(limit, fc.constantFrom(0.1, 1, 3, 7.5, 1000, 1e9)).map(([capacity, rate]) =>
    tokenBucket({
      capacity,
      refillPerSecond: Math.max(rate, capacity / longestWindowSeconds),
    }),
  ),
  fc.record({ limit, windowSeconds }).map(slidingWindow),
  fc.record({ limit: listedLimit, windowSeconds }).map(slidingLog),
  fc.record({ limit, windowSeconds }).map(fixedWindow),
  fc
    .record({ limit: listedLimit, leaseSeconds: fc.constantFrom(1, 2, 7, 60, 86_400) })
    .map(concurrency),
);
export const cost: fc.Arbitrary<number> = fc.oneof(
  { weight: 19, arbitrary: fc.integer({ min: 1, max: 13 }) },
  { weight: 1, arbitrary: fc.constantFrom(1000, 10_001, 1e9, 4e9, Number.MAX_SAFE_INTEGER) },
);
const forced = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 13 }) },
  { weight: 1, arbitrary: fc.constantFrom(1000, 1e9) },
);
const slot = fc.integer({ min: 1, max: 4 });

export const policies: fc.Arbitrary<readonly Policy[]> = fc.oneof(
  { weight: 9, arbitrary: fc.array(policy, { minLength: 1, maxLength: 4 }) },
  { weight: 1, arbitrary: fc.array(policy, { minLength: 1, maxLength: 16 }) },
);
const dayMs = 86_400_000;
/** A clock that somebody sets right, or wrong. */
const stepMs = fc.constantFrom(0.5, 40, 5000, 3_600_000, dayMs, 366 * dayMs, 3 * 366 * dayMs);

const kinds: fc.Arbitrary<readonly PolicyKind[]> = fc.array(
  fc.constantFrom<PolicyKind[]>(
    'token-bucket',
    'sliding-window',
    'fixed-window',
    'sliding-log',
    'concurrency',
  ),
  { minLength: 16, maxLength: 16 },
);

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.oneof(
        { weight: 4, arbitrary: fc.integer({ min: 0, max: 3000 }) },
        { weight: 4, arbitrary: fc.constantFrom(0.25, 999.9, 60_000) },
        { weight: 1, arbitrary: stepMs },
      ),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constantFrom('take' as const, 'peek' as const), cost, slot }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('force' as const), cost: forced, slot }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('back' as const),
      ms: stepMs,
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('give' as const), cost, slot }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('renew' as const), slot }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('restrict' as const),
      remaining: fc.oneof(fc.integer({ min: 0, max: 3 }), fc.constantFrom(1e9, 2 ** 53 - 1)),
      durationMs: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.constant(dayMs)),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('limits' as const), policies }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('convert' as const), kinds }) },
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
        // What is charged afterwards takes no slot.
        const slotTaken = leases && each.do !== 'force' ? each.slot : 0;
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
      case 'convert':
        limits = changed(limits, each);
        break;
      case 'reset':
        await store.reset(key, timeoutMs);
        break;
    }
  }
  return answers;
}

/** The limits that are in force when a program has run. */
export function limitsAfter(first: readonly Policy[], steps: readonly Step[]): readonly Policy[] {
  return steps.reduce(changed, first);
}

function changed(limits: readonly Policy[], step: Step): readonly Policy[] {
  if (step.do === 'limits') return step.policies;
  if (step.do !== 'convert') return limits;
  return limits.map((policy, index) => converted(policy, step.kinds[index] as PolicyKind));
}

/** The window stays as it is, so that a state of another kind could be taken for one's own. */
function converted({ limit, windowSeconds }: Policy, kind: PolicyKind): Policy {
  const listed = Math.min(limit, 10_000);
  switch (kind) {
    case 'token-bucket': {
      const refillPerSecond = Math.min((2 * limit) / windowSeconds, 1e9);
      return tokenBucket({ capacity: limit, refillPerSecond });
    }
    case 'sliding-window':
      return slidingWindow({ limit, windowSeconds });
    case 'fixed-window':
      return fixedWindow({ limit, windowSeconds });
    case 'sliding-log':
      return slidingLog({ limit: listed, windowSeconds });
    case 'concurrency':
      return concurrency({ limit: listed, leaseSeconds: Math.min(windowSeconds, 86_400) });
  }
}

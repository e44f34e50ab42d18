import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  createRateLimiter,
  memoryRateLimitStore,
  type Policy,
  type PolicySet,
  type RateLimiter,
  type RateLimitStore,
} from '../src/index.ts';
import { policies } from './programs.ts';

type Name = 'a' | 'b' | 'shadow' | 'alone';
type Step =
  | { readonly do: 'check'; readonly policy: Name; readonly subject: string; readonly cost: number }
  | {
      readonly do: 'refund' | 'settle';
      readonly policy: Name;
      readonly subject: string;
      readonly cost: number;
    }
  | { readonly do: 'reset' | 'release'; readonly policy: Name; readonly subject: string }
  | {
      readonly do: 'restrict';
      readonly policy: Name;
      readonly subject: string;
      readonly remaining: number;
      readonly ms: number;
    }
  | { readonly do: 'limits'; readonly limits: readonly Policy[] }
  | { readonly do: 'upgrade'; readonly limits: readonly Policy[] }
  | { readonly do: 'downgrade' }
  | { readonly do: 'wait'; readonly ms: number };

const limits = policies.map((all) => all.map((one, index) => ({ ...one, name: `n${index}` })));
const policy = fc.constantFrom<Name[]>('a', 'b', 'shadow', 'alone', 'alone', 'alone', 'alone');
const subject = fc.constantFrom('s', 't', 't', 't');
const cost = fc.constantFrom(1, 1, 3, 12);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 9, arbitrary: fc.record({ do: fc.constant('check' as const), policy, subject, cost }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('refund' as const, 'settle' as const),
      policy,
      subject,
      cost,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('reset' as const, 'release' as const),
      policy,
      subject,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('restrict' as const),
      policy,
      subject,
      remaining: fc.integer({ min: 0, max: 3 }),
      ms: fc.constantFrom(100, 900, 6000, 20_000),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('limits' as const), limits }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('upgrade' as const), limits }) },
  { weight: 2, arbitrary: fc.constant({ do: 'downgrade' as const }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.constantFrom(1, 130, 999, 2500, 12_000),
    }),
  },
);

/** A limiter, how its clock is set, and what it answered. */
class Player {
  readonly clock = { ms: Date.UTC(2026, 0, 1) };
  readonly #limiter: RateLimiter<Name>;
  readonly #slots: number[] = [];
  #upgraded: readonly Policy[] | undefined;

  constructor(limits: readonly Policy[], wrap: (store: RateLimitStore) => RateLimitStore) {
    const now = (): number => this.clock.ms;
    const shared: PolicySet = { limits, counter: 'c' };
    this.#limiter = createRateLimiter<Name>({
      store: wrap(memoryRateLimitStore({ now })),
      now,
      policies: { a: shared, b: shared, shadow: { ...shared, shadow: true }, alone: limits },
      overrides: (who, name) => (who === 't' && name === 'alone' ? this.#upgraded : undefined),
    });
  }

  async play(step: Step): Promise<unknown> {
    const limiter = this.#limiter;
    switch (step.do) {
      case 'wait':
        this.clock.ms += step.ms;
        return undefined;
      case 'limits':
        limiter.setPolicies('alone', step.limits);
        return undefined;
      case 'upgrade':
        this.#upgraded = step.limits;
        return undefined;
      case 'downgrade':
        this.#upgraded = undefined;
        return undefined;
      case 'check': {
        const { allowed, impossible, shadowed, slot } = await limiter.check(step.subject, step);
        if (slot !== 0) this.#slots.push(slot);
        return { allowed, impossible, shadowed };
      }
      case 'refund':
        return await limiter.refund(step.subject, step);
      case 'settle':
        return await limiter.settle(step.subject, { ...step, cost: 0, actualCost: step.cost });
      case 'reset':
        return await limiter.reset(step.subject, step);
      case 'release':
        return await limiter.release(step.subject, { ...step, slot: this.#slots.shift() ?? 0 });
      case 'restrict':
        return await limiter.restrict(step.subject, {
          policy: step.policy,
          remaining: step.remaining,
          durationMs: step.ms,
        });
    }
  }
}

test('what a process remembers of refusals changes no answer, while its clock is never set back', async () => {
  await fc.assert(
    fc.asyncProperty(
      limits,
      fc.array(step, { maxLength: 60, size: 'max' }),
      async (first, steps) => {
        const plain = new Player(first, (store) => store);
        const remembering = new Player(first, (store) => ({
          ...store,
          sync: false,
          consume: async (...args) => await store.consume(...args),
        }));
        for (const each of steps) {
          const expected = await plain.play(each);
          expect(await remembering.play(each)).toEqual(expected);
        }
      },
    ),
    { numRuns: 1500 },
  );
});

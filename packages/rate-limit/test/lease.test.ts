import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  createRateLimiter,
  fixedWindow,
  memoryRateLimitStore,
  type RateLimitStore,
} from '../src/index.ts';

type Step =
  | {
      readonly do: 'check';
      readonly process: number;
      readonly policy: 'p' | 'q';
      readonly cost: number;
    }
  | { readonly do: 'run' }
  | { readonly do: 'answer' }
  | { readonly do: 'wait'; readonly ms: number };

const windowMs = 1000;
const size = 7;
const limit = size;
const mostProcesses = 3;
const mostSets = 2;

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('check' as const),
      process: fc.nat({ max: mostProcesses - 1 }),
      policy: fc.constantFrom('p' as const, 'q' as const),
      // None costs as much as a lease, so that a lease is known by what it costs.
      cost: fc.constantFrom(1, 1, 1, size - 1),
    }),
  },
  { weight: 5, arbitrary: fc.constant({ do: 'run' as const }) },
  { weight: 5, arbitrary: fc.constant({ do: 'answer' as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.constantFrom(300, windowMs),
    }),
  },
);

const check = (cost: number, policy: 'p' | 'q' = 'p'): Step => ({
  do: 'check',
  process: 0,
  policy,
  cost,
});
const wait: Step = { do: 'wait', ms: windowMs };
const [run, answer]: [Step, Step] = [{ do: 'run' }, { do: 'answer' }];
/** What is left of a lease, and the next, which a larger cost needs, both carried into a window. */
const carried: readonly Step[] = [
  [check(1), run, answer, check(1), check(6), wait, run, wait],
  [check(1), check(1), check(1), check(6), answer, run],
].flat();
/** What is left of a lease for each of two sets, carried into the same window. */
const carriedByTwo: readonly Step[] = [
  [check(1), run, answer, wait, check(1, 'q'), run, answer, wait],
  [check(6), check(6, 'q'), check(1), run, answer, check(6)],
].flat();

const programs = fc.array(step, { maxLength: 80, size: 'max' });

/** Lets everything that is ready to go on go on. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('leases', () => {
  test('let at most their size for each process and set pass on top of a window, whatever the costs and however late the answers', async () => {
    await fc.assert(
      fc.asyncProperty(
        programs,
        fc.integer({ min: 1, max: mostProcesses }),
        fc.integer({ min: 1, max: mostSets }),
        async (steps, processes, sets) => {
          const clock = { ms: 0 };
          const now = (): number => clock.ms;
          const memory = memoryRateLimitStore({ now });
          const passed = new Map<number, number>();
          const pass = (cost: number): void => {
            const window = Math.floor(clock.ms / windowMs);
            passed.set(window, (passed.get(window) ?? 0) + cost);
          };
          const sent: (() => () => void)[] = [];
          const ran: (() => void)[] = [];
          const store: RateLimitStore = {
            ...memory,
            sync: false,
            consume: (...args) =>
              new Promise((resolve) => {
                sent.push(() => {
                  const answer = memory.consume(...args);
                  // A single cost passes when the store grants it, what a lease covers when it is spent.
                  if (answer.granted && args[3] !== size) pass(args[3]);
                  return () => resolve(answer);
                });
              }),
          };
          const shared = {
            limits: [fixedWindow({ limit, windowSeconds: windowMs / 1000 })],
            counter: 'c',
          };
          const fleet = Array.from({ length: processes }, () =>
            createRateLimiter({
              store,
              now,
              policies: { p: shared, q: shared },
              lease: { size, maxAgeMs: 3000 },
            }),
          );
          for (const each of steps) {
            if (each.do === 'wait') clock.ms += each.ms;
            else if (each.do === 'run') {
              const answer = sent.shift()?.();
              if (answer) ran.push(answer);
            } else if (each.do === 'answer') ran.shift()?.();
            else if (each.do === 'check') {
              void fleet[each.process % processes]
                ?.check('s', { policy: sets === 1 ? 'p' : each.policy, cost: each.cost })
                .then(({ allowed, source }) => {
                  if (allowed && source === 'local') pass(each.cost);
                });
            }
            await settled();
          }
          for (const count of passed.values())
            expect(count).toBeLessThanOrEqual(limit + size * processes * sets);
        },
      ),
      {
        numRuns: 500,
        examples: [
          [carried, 1, 1],
          [carriedByTwo, 1, 2],
        ],
      },
    );
  });
});

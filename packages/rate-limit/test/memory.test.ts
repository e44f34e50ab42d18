import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { freshState } from '../src/algorithm.ts';
import { memoryRateLimitStore, type Policy, slidingLog, slidingWindow } from '../src/index.ts';
import { tolerance } from '../src/state.ts';
import { cost, limitsAfter, policies, program, run, type Step } from './programs.ts';
import { rateLimitStoreContract } from './store.contract.ts';

rateLimitStoreContract('memory', (now) => memoryRateLimitStore({ now }));

describe('whatever happened before', () => {
  const start = Date.UTC(2026, 0, 1);

  /** A store in which a program has run and then something was asked for, under the limits that were in force at its end. */
  async function asked(first: readonly Policy[], steps: readonly Step[], amount: number) {
    const clock = { ms: start };
    const store = memoryRateLimitStore({ now: () => clock.ms });
    await run(store, clock, 's', first, steps);
    // Whole milliseconds are all that an answer can say.
    clock.ms = Math.ceil(clock.ms);
    const limits = limitsAfter(first, steps);
    const slot = limits.some(({ kind }) => kind === 'concurrency') ? 99 : 0;
    const ask = (mode: 'take' | 'peek') => store.consume('c', 's', limits, amount, mode, slot, 0);
    return { clock, limits, answer: ask('take'), peek: () => ask('peek') };
  }

  /** By how much sooner the tolerance of a sum lets somebody pass, at most, in milliseconds. */
  function slackMs({ refillPerSecond, windowSeconds }: Policy): number {
    return Math.ceil(
      tolerance * (refillPerSecond > 0 ? 1 / refillPerSecond : windowSeconds) * 1000,
    );
  }

  test('a refusal ends when it says, and not before', async () => {
    await fc.assert(
      fc.asyncProperty(policies, program, cost, async (first, steps, amount) => {
        const { clock, limits, answer, peek } = await asked(first, steps, amount);
        const waits = answer.policies.map(({ retryAfterMs }) => retryAfterMs);
        const waitMs = Math.max(answer.pausedMs, ...waits);
        fc.pre(!answer.granted && Number.isFinite(waitMs));
        expect(waitMs).toBeGreaterThan(0);
        const soonerMs = Math.min(waitMs, 1 + Math.max(...limits.map(slackMs)));
        clock.ms += waitMs - soonerMs;
        expect(peek().granted).toBe(false);
        clock.ms += soonerMs;
        expect(peek().granted).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test('everything can be had again when it says', async () => {
    await fc.assert(
      fc.asyncProperty(policies, program, async (first, steps) => {
        const { clock, limits, answer, peek } = await asked(first, steps, 1);
        clock.ms += Math.max(...answer.policies.map(({ resetMs }) => resetMs));
        const left = peek().policies;
        expect(left.map(({ remaining }) => remaining)).toEqual(limits.map(({ limit }) => limit));
        // The rounding of a sum may be a microsecond's worth.
        expect(Math.max(...left.map(({ resetMs }) => resetMs))).toBeLessThanOrEqual(1);
      }),
      { numRuns: 1000 },
    );
  });
});

test('remembers a bounded number of subjects, those seen last', () => {
  const store = memoryRateLimitStore({ maxSubjects: 100 });
  const policies = [slidingWindow({ limit: 5, windowSeconds: 60 })];
  const seen = (subject: string): unknown => store.consume('c', subject, policies, 1, 'take', 0, 0);
  for (let index = 0; index < 10_000; index += 1) {
    seen(`attacker-${index}`);
    seen('regular');
  }
  expect(store.size).toBeLessThanOrEqual(100);
  expect(seen('regular')).toMatchObject({ granted: false });
});

test.each([2, 3, 5, 8])('remembers no more than %d subjects of any kind', (maxSubjects) => {
  const store = memoryRateLimitStore({ maxSubjects });
  const kinds = [slidingWindow, slidingLog].map((kind) => [kind({ limit: 5, windowSeconds: 60 })]);
  for (const limits of kinds) {
    const counter = limits[0]?.kind ?? '';
    for (let index = 0; index < 50; index += 1) {
      store.consume(counter, `${index}`, limits, 1, 'take', 0, 0);
      expect(store.size).toBeLessThanOrEqual(maxSubjects * (1 + kinds.indexOf(limits)));
    }
    // Half of them at least.
    const last = store.consume(
      counter,
      `${50 - Math.floor(maxSubjects / 2)}`,
      limits,
      1,
      'peek',
      0,
      0,
    );
    expect(last.policies[0]?.remaining).toBe(4);
  }
});

test('a peek at a subject that was never seen leaves nothing behind', () => {
  const store = memoryRateLimitStore();
  store.consume('c', 's', [slidingWindow({ limit: 5, windowSeconds: 60 })], 1, 'peek', 0, 0);
  expect(store.size).toBe(0);
});

test.each([0, 1, -1, 1.5, Number.NaN])('refuses maxSubjects: %d', (maxSubjects) => {
  expect(() => memoryRateLimitStore({ maxSubjects })).toThrow(/^maxSubjects: /);
});

test('a log does not grow with what is charged over its limit', () => {
  const policy = slidingLog({ limit: 5, windowSeconds: 3600 });
  const state = freshState(policy.kind, policy.windowUs);
  for (let nowUs = 1; nowUs <= 50; nowUs += 1)
    state.algorithm.take(policy, state, nowUs, nowUs % 10 === 0 ? 1e9 : 1, 0);
  expect(state.entries.length / 2).toBeLessThanOrEqual(10);
  expect(state.used).toBe(state.entries.reduce((sum, part, index) => sum + (index % 2) * part, 0));
});

describe('the text that a subject was cut out of', () => {
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const heapUsed = (): number => {
    collectGarbage();
    return process.memoryUsage().heapUsed;
  };
  const longText = 100_000;
  const cutOut = (name: number, length: number): string =>
    `${name}`.padEnd(length, '-').concat(',').padEnd(longText, 'x').split(',', 1)[0] as string;
  const kinds = [
    ['a row of numbers', slidingWindow({ limit: 5, windowSeconds: 60 })],
    ['an object', slidingLog({ limit: 5, windowSeconds: 60 })],
  ] as const;
  // V8 copies what is shorter than 13 characters when it is cut out.
  const lengths = [12, 13, 100];

  test.each(
    kinds.flatMap(([record, policy]) => lengths.map((length) => ({ record, policy, length }))),
  )('is not kept with its record: $record, $length characters', ({ policy, length }) => {
    const store = memoryRateLimitStore({ maxSubjects: 300 });
    const before = heapUsed();
    // Twice, so that some are found among those seen last, and some among those seen before them.
    for (let at = 0; at < 400; at += 1)
      store.consume('c', cutOut(at % 200, length), [policy], 1, 'take', 0, 0);
    expect(store.size).toBeGreaterThan(100);
    expect(heapUsed() - before).toBeLessThan(50 * longText);
  });
});

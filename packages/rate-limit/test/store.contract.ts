import { beforeEach, describe, expect, test } from 'vitest';
import {
  concurrency,
  fixedWindow,
  type Policy,
  type RateLimitStore,
  slidingLog,
  slidingWindow,
  tokenBucket,
} from '../src/index.ts';

const timeoutMs = 10_000;

/**
 * What every store promises. Run it against a store of your own:
 * `rateLimitStoreContract('mine', (now) => myStore({ now }))`.
 * @param create - makes a store that takes its time, in milliseconds, from `now`; state may be shared between stores.
 */
export function rateLimitStoreContract(
  name: string,
  create: (now: () => number) => RateLimitStore | Promise<RateLimitStore>,
): void {
  describe(`${name} keeps the contract of a rate-limit store`, () => {
    const startMs = Date.UTC(2026, 0, 1);
    let store: RateLimitStore;
    let nowMs = startMs;
    let subject = '';
    let count = 0;
    beforeEach(async () => {
      nowMs = startMs;
      count += 1;
      subject = `${process.pid}-${Date.now()}-${count}`;
      store = await create(() => nowMs);
    });

    const take = async (policies: readonly Policy[], cost = 1, slot = 0) =>
      await store.consume('c', subject, policies, cost, 'take', slot, timeoutMs);
    const granted = async (policies: readonly Policy[], cost = 1, slot = 0): Promise<boolean> =>
      (await take(policies, cost, slot)).granted;
    const passing = async (policies: readonly Policy[], tries: number): Promise<number> => {
      let passed = 0;
      for (let index = 0; index < tries; index += 1) if (await granted(policies)) passed += 1;
      return passed;
    };

    const kinds: [string, Policy][] = [
      ['token bucket', tokenBucket({ capacity: 5, refillPerSecond: 5 })],
      ['sliding window', slidingWindow({ limit: 5, windowSeconds: 1 })],
      ['sliding log', slidingLog({ limit: 5, windowSeconds: 1 })],
      ['fixed window', fixedWindow({ limit: 5, windowSeconds: 1 })],
    ];

    describe.each(kinds)('%s', (_, policy) => {
      const policies = [policy];

      test('grants its limit and no more', async () => {
        expect(await passing(policies, 8)).toBe(5);
      });

      test('grants again when retryAfterMs says so, and not a millisecond before', async () => {
        await passing(policies, 5);
        nowMs += 130;
        const { granted: refused, policies: statuses } = await take(policies, 2);
        expect(refused).toBe(false);
        const { retryAfterMs } = statuses[0] ?? { retryAfterMs: 0 };
        expect(retryAfterMs).toBeGreaterThan(0);
        nowMs += retryAfterMs - 1;
        expect(await granted(policies, 2)).toBe(false);
        nowMs += 1;
        expect(await granted(policies, 2)).toBe(true);
      });

      test('has forgotten everything when resetMs says so', async () => {
        const { policies: statuses } = await take(policies, 3);
        expect(statuses[0]?.remaining).toBe(2);
        nowMs += statuses[0]?.resetMs ?? 0;
        expect(await passing(policies, 8)).toBe(5);
      });

      test('can never grant a cost above its limit, and is not locked by being asked', async () => {
        const { granted: impossible, policies: statuses } = await take(policies, 6);
        expect(impossible).toBe(false);
        expect(statuses[0]?.retryAfterMs).toBe(Number.POSITIVE_INFINITY);
        expect(await passing(policies, 8)).toBe(5);
      });

      test('charges nothing for a peek and beyond the limit when forced', async () => {
        await store.consume('c', subject, policies, 3, 'peek', 0, timeoutMs);
        await store.consume('c', subject, policies, 4, 'force', 0, timeoutMs);
        expect(await passing(policies, 3)).toBe(1);
        const forced = await store.consume('c', subject, policies, 4, 'force', 0, timeoutMs);
        expect(forced.policies[0]?.remaining).toBe(0);
      });

      test('gives back what was charged, and never more', async () => {
        await take(policies, 4);
        await store.give({ counter: 'c', subject }, policies, 2, 0, timeoutMs);
        expect(await passing(policies, 8)).toBe(3);
        await store.give({ counter: 'c', subject }, policies, 100, 0, timeoutMs);
        expect(await passing(policies, 8)).toBe(5);
      });

      test('keeps what is charged when the clock steps back, and locks nobody out', async () => {
        await take(policies, 5);
        nowMs -= 3_600_000;
        expect(await granted(policies)).toBe(false);
        nowMs += 2000;
        expect(await passing(policies, 8)).toBe(5);
      });

      test('charges nothing on top when the clock steps back a little and there is still room', async () => {
        await take(policies);
        nowMs -= 200;
        const answer = await take(policies);
        expect(answer).toMatchObject({ granted: true, policies: [{ remaining: 3 }] });
      });

      test('counts each of many calls made at once', async () => {
        const answers = await Promise.all(Array.from({ length: 20 }, () => take(policies)));
        expect(answers.filter((answer) => answer.granted)).toHaveLength(5);
      });
    });

    describe('a sliding log', () => {
      const policies = [slidingLog({ limit: 3, windowSeconds: 1 })];

      test('never grants more than its limit within any window', async () => {
        await take(policies);
        nowMs += 900;
        expect(await passing(policies, 5)).toBe(2);
        nowMs += 100;
        expect(await passing(policies, 5)).toBe(1);
        nowMs += 899;
        expect(await passing(policies, 5)).toBe(0);
        nowMs += 1;
        expect(await passing(policies, 5)).toBe(2);
      });

      test('keeps entries of the same moment apart', async () => {
        await Promise.all([take(policies), take(policies)]);
        expect((await take(policies)).policies[0]?.remaining).toBe(0);
      });
    });

    describe('a sliding window', () => {
      test('does not slide on the last request: steady traffic below the limit is never refused', async () => {
        const policies = [slidingWindow({ limit: 10, windowSeconds: 1 })];
        for (let index = 0; index < 50; index += 1) {
          expect(await granted(policies)).toBe(true);
          nowMs += 125;
        }
      });
    });

    test.each([
      ['sliding', slidingWindow, 0],
      ['fixed', fixedWindow, 10],
    ] as const)(
      'a %s window keeps what was charged in the one before when the clock steps back into it',
      async (_, windowOf, again) => {
        const policies = [windowOf({ limit: 10, windowSeconds: 10 })];
        nowMs += 9900;
        expect(await passing(policies, 10)).toBe(10);
        nowMs += 1200;
        expect(await granted(policies)).toBe(true);
        nowMs -= 1500;
        expect(await passing(policies, 10)).toBe(0);
        nowMs += 1500;
        expect(await passing(policies, 10)).toBe(again);
        nowMs += 20_000;
        expect(await passing(policies, 12)).toBe(10);
      },
    );

    describe('concurrency', () => {
      const policies = [concurrency({ limit: 2, leaseSeconds: 10 })];
      const key = () => ({ counter: 'c', subject });

      test('leases so many slots, whatever they cost', async () => {
        expect(await granted(policies, 7, 1)).toBe(true);
        expect(await granted(policies, 1, 2)).toBe(true);
        expect(await granted(policies, 1, 3)).toBe(false);
        await store.give(key(), policies, 0, 1, timeoutMs);
        expect(await granted(policies, 1, 3)).toBe(true);
      });

      test('frees the slots of holders that died', async () => {
        await take(policies, 1, 1);
        nowMs += 6000;
        await take(policies, 1, 2);
        expect((await take(policies, 1, 3)).policies[0]?.retryAfterMs).toBe(4000);
        nowMs += 4000;
        expect(await granted(policies, 1, 3)).toBe(true);
      });

      test('leases a slot anew while it is held', async () => {
        await take(policies, 1, 1);
        await take(policies, 1, 2);
        nowMs += 9000;
        expect(await store.renew(key(), policies, 1, timeoutMs)).toBe(true);
        nowMs += 1500;
        expect(await store.renew(key(), policies, 2, timeoutMs)).toBe(false);
        expect(await granted(policies, 1, 3)).toBe(true);
        expect(await granted(policies, 1, 4)).toBe(false);
      });
    });

    describe('several policies', () => {
      const tight = tokenBucket({ capacity: 1, refillPerSecond: 0.01 });
      const wide = slidingWindow({ limit: 10, windowSeconds: 60 });

      test('grant together or charge nothing: refusals do not drain the others', async () => {
        expect(await passing([tight, wide], 20)).toBe(1);
        const peeked = await store.consume('c', subject, [wide], 1, 'peek', 0, timeoutMs);
        expect(peeked.policies[0]?.remaining).toBe(9);
        expect(await passing([wide, tight], 20)).toBe(0);
      });

      test('each report where they stand', async () => {
        const { policies } = await take([tight, wide]);
        expect(policies.map(({ remaining }) => remaining)).toEqual([0, 9]);
      });
    });

    test('limits that change carry over what was used', async () => {
      await take([slidingWindow({ limit: 60, windowSeconds: 60 })], 50);
      const more = await take([slidingWindow({ limit: 300, windowSeconds: 60 })]);
      expect(more.policies[0]?.remaining).toBe(249);
      const longer = await take([slidingWindow({ limit: 300, windowSeconds: 120 })]);
      expect(longer.policies[0]?.remaining).toBe(248);
      const less = await take([slidingWindow({ limit: 20, windowSeconds: 60 })]);
      expect(less).toMatchObject({ granted: false, policies: [{ remaining: 0 }] });
    });

    test('limits that change to shorter windows lock nobody out for as long as the old ones lasted', async () => {
      await take([slidingWindow({ limit: 1000, windowSeconds: 31_622_400 })], 1000);
      const policies = [slidingWindow({ limit: 10, windowSeconds: 60 })];
      const { policies: statuses } = await take(policies);
      expect(statuses[0]?.retryAfterMs).toBeLessThanOrEqual(120_000);
      nowMs += statuses[0]?.retryAfterMs ?? 0;
      expect(await granted(policies)).toBe(true);
    });

    test('limits that change in one process after the other let what was used age meanwhile', async () => {
      const before = [slidingWindow({ limit: 5, windowSeconds: 60 })];
      const after = [slidingWindow({ limit: 5, windowSeconds: 120 })];
      expect(await passing(before, 6)).toBe(5);
      const either = async (): Promise<number> => {
        nowMs += 10_000;
        return (await passing(after, 1)) + (await passing(before, 1));
      };
      let passed = 0;
      while (nowMs < startMs + 120_000) passed += await either();
      expect(passed).toBe(0);
      while (nowMs < startMs + 230_000) passed += await either();
      expect(passed).toBeGreaterThan(0);
      expect(passed).toBeLessThanOrEqual(5);
    });

    test('limits of another kind do not take what is stored for their own, whatever their window', async () => {
      const numbers = { limit: 5, windowSeconds: 60 };
      const all = [fixedWindow(numbers), slidingWindow(numbers), slidingLog(numbers)];
      for (const before of all) {
        for (const after of all.filter(({ kind }) => kind !== before.kind)) {
          await take([before], 2);
          expect((await take([after], 2)).policies[0]?.remaining).toBe(3);
        }
        await take([before]);
        const slots = [concurrency({ limit: 5, leaseSeconds: 60 })];
        expect((await take(slots, 1, 7)).policies[0]?.remaining).toBe(4);
        await store.give({ counter: 'c', subject }, slots, 0, 7, timeoutMs);
        expect((await take(slots, 1, 8)).policies[0]?.remaining).toBe(4);
      }
    });

    describe('a charge by force', () => {
      const force = async (policies: readonly Policy[], cost: number) =>
        await store.consume('c', subject, policies, cost, 'force', 0, timeoutMs);
      const daysMs = 86_400_000;

      test('of any size, by any rate, is forgotten after two years', async () => {
        const fast = [tokenBucket({ capacity: 1e9, refillPerSecond: 1e9 })];
        const slow = [tokenBucket({ capacity: 1, refillPerSecond: 1e-7 })];
        for (const policies of [slow, fast, slow]) {
          const forced = await force(policies, 1e9);
          expect(forced.policies[0]?.resetMs).toBeLessThanOrEqual(732 * daysMs);
        }
        nowMs += 732 * daysMs;
        expect(await granted(slow)).toBe(true);
      });

      test('is in a log no longer than its window, however much came in one moment', async () => {
        const policies = [slidingLog({ limit: 5, windowSeconds: 60 })];
        for (let count = 0; count < 5; count += 1) await force(policies, 1e9);
        nowMs += 59_999;
        expect(await take(policies)).toMatchObject({
          granted: false,
          policies: [{ retryAfterMs: 1 }],
        });
        nowMs += 1;
        expect(await passing(policies, 8)).toBe(5);
      });

      test('again and again is kept exactly by a log up to twice its limit, and then forgotten with the last of it', async () => {
        const policies = [slidingLog({ limit: 5, windowSeconds: 60 })];
        const forced = async (times: number): Promise<void> => {
          for (let count = 0; count < times; count += 1) {
            nowMs += 1000;
            await force(policies, 1);
          }
        };
        await forced(10);
        nowMs += 59_999 - 4000;
        expect(await granted(policies)).toBe(false);
        nowMs += 1;
        expect(await granted(policies)).toBe(true);
        nowMs += 60_000;
        await forced(20);
        nowMs += 59_999;
        expect(await granted(policies)).toBe(false);
        nowMs += 1;
        expect(await passing(policies, 8)).toBe(5);
      });

      test('takes no slot', async () => {
        const policies = [concurrency({ limit: 1 }), fixedWindow({ limit: 5, windowSeconds: 60 })];
        const forced = await force(policies, 3);
        expect(forced.policies.map(({ remaining }) => remaining)).toEqual([1, 2]);
      });
    });

    test('subjects and counters are kept apart', async () => {
      const policies = [fixedWindow({ limit: 1, windowSeconds: 60 })];
      expect(await granted(policies)).toBe(true);
      const other = await store.consume('d', subject, policies, 1, 'take', 0, timeoutMs);
      expect(other.granted).toBe(true);
      const another = await store.consume('c', `${subject}x`, policies, 1, 'take', 0, timeoutMs);
      expect(another.granted).toBe(true);
    });

    test('a reset forgets the subject', async () => {
      const policies = [fixedWindow({ limit: 1, windowSeconds: 60 })];
      await take(policies);
      await store.reset({ counter: 'c', subject }, timeoutMs);
      expect(await granted(policies)).toBe(true);
    });

    describe('a restriction', () => {
      const policies = [fixedWindow({ limit: 100, windowSeconds: 3600 })];
      const restrict = async (remaining: number, durationMs: number): Promise<void> =>
        await store.restrict({ counter: 'c', subject }, policies, remaining, durationMs, timeoutMs);

      test('grants so many more until it ends', async () => {
        await restrict(2, 5000);
        expect((await take(policies)).policies[0]?.remaining).toBe(1);
        expect(await passing(policies, 5)).toBe(1);
        expect(await take(policies)).toMatchObject({ granted: false, pausedMs: 5000 });
        nowMs += 5000;
        expect(await granted(policies)).toBe(true);
      });

      test('is not loosened while it holds', async () => {
        await restrict(2, 5000);
        await restrict(5, 60_000);
        await restrict(2, 1000);
        expect(await passing(policies, 5)).toBe(2);
        nowMs += 4999;
        expect(await granted(policies)).toBe(false);
        nowMs += 1;
        expect(await granted(policies)).toBe(true);
      });

      test('gives way to a tighter one, which ends when it said', async () => {
        await restrict(5, 3_600_000);
        await restrict(0, 1000);
        expect((await take(policies)).pausedMs).toBe(1000);
        nowMs += 1000;
        expect(await granted(policies)).toBe(true);
      });

      test('is part of the time until everything can be had again', async () => {
        await restrict(2, 5_000_000);
        expect((await take(policies)).policies[0]?.resetMs).toBe(5_000_000);
        nowMs += 4_999_999;
        expect((await take(policies)).policies[0]?.resetMs).toBe(3_600_000 - 1_399_999);
      });

      test('lasts no longer than a day when the clock is set back', async () => {
        await restrict(0, 1000);
        nowMs -= 366 * 86_400_000;
        expect((await take(policies)).pausedMs).toBe(86_400_000);
        nowMs += 86_399_999;
        expect((await take(policies)).pausedMs).toBe(1);
        nowMs += 1;
        expect(await granted(policies)).toBe(true);
      });

      test('holds for a subject that was never seen', async () => {
        await restrict(0, 5000);
        expect(await granted(policies)).toBe(false);
      });
    });
  });
}

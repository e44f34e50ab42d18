import type { Claim, ReplayStore } from '@countersign/webhooks';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

/** A store under test. */
export interface StoreUnderTest {
  readonly store: ReplayStore;
  /** Makes the store believe that this much time has passed. */
  advance(ms: number): void | Promise<void>;
  close?(): void | Promise<void>;
}

const leaseMs = 60_000;
const ttlMs = 600_000;

/**
 * What every `ReplayStore` must do. Call it in a test file of your own store.
 * @param create - makes an empty store; called before every test.
 */
export function replayStoreContract(
  name: string,
  create: () => StoreUnderTest | Promise<StoreUnderTest>,
): void {
  describe(`${name}: replay store contract`, () => {
    let under: StoreUnderTest;
    let store: ReplayStore;

    beforeEach(async () => {
      under = await create();
      store = under.store;
    });

    afterEach(async () => {
      await under.close?.();
    });

    const tokenOf = (claim: Claim): string => {
      if (claim.status !== 'claimed') throw new Error(`expected a claim, got ${claim.status}`);
      return claim.token;
    };
    const claimed = async (id: string): Promise<string> => tokenOf(await store.claim(id, leaseMs));

    test('lets one of many claimants have an id', async () => {
      const claims = await Promise.all(Array.from({ length: 50 }, () => store.claim('a', leaseMs)));
      expect(claims.filter(({ status }) => status === 'claimed')).toHaveLength(1);
      expect(claims.filter(({ status }) => status === 'processing')).toHaveLength(49);
    });

    test('says for how long an id is taken', async () => {
      await claimed('a');
      await under.advance(20_000);
      const claim = await store.claim('a', leaseMs);
      if (claim.status !== 'processing') throw new Error(`got ${claim.status}`);
      expect(claim.retryAfterMs).toBeGreaterThan(30_000);
      expect(claim.retryAfterMs).toBeLessThanOrEqual(40_000);
    });

    test('keeps ids apart, whatever characters they have', async () => {
      for (const id of ['a', 'A', 'a:b', '{a}', 'a b', 'ä', 'a\u0000', '*', '__proto__']) {
        expect(await store.claim(id, leaseMs)).toMatchObject({ status: 'claimed' });
      }
    });

    test('gives an id to somebody else when the lease ran out', async () => {
      const first = await claimed('a');
      await under.advance(leaseMs + 1);
      const second = await claimed('a');
      expect(second).not.toBe(first);
      expect(await store.renew('a', first, leaseMs)).toBe(false);
      expect(await store.release('a', first)).toBe(false);
      expect(await store.complete('a', first, ttlMs)).toBe(false);
      expect(await store.complete('a', second, ttlMs)).toBe(true);
    });

    test('keeps a lease that is renewed', async () => {
      const token = await claimed('a');
      for (let round = 0; round < 3; round += 1) {
        await under.advance(leaseMs - 10_000);
        expect(await store.renew('a', token, leaseMs)).toBe(true);
      }
      expect(await store.claim('a', leaseMs)).toMatchObject({ status: 'processing' });
    });

    test('does not revive a lease that ran out', async () => {
      const token = await claimed('a');
      await under.advance(leaseMs + 1);
      expect(await store.renew('a', token, leaseMs)).toBe(false);
      expect(await store.claim('a', leaseMs)).toMatchObject({ status: 'claimed' });
    });

    test('remembers what was completed, until its time is over', async () => {
      const token = await claimed('a');
      expect(await store.complete('a', token, ttlMs)).toBe(true);
      expect(await store.claim('a', leaseMs)).toEqual({ status: 'completed' });
      await under.advance(ttlMs - 10_000);
      expect(await store.claim('a', leaseMs)).toEqual({ status: 'completed' });
      await under.advance(10_001);
      expect(await store.claim('a', leaseMs)).toMatchObject({ status: 'claimed' });
    });

    test('completes after the lease ran out, when nobody else took the id', async () => {
      const token = await claimed('a');
      await under.advance(leaseMs + 1);
      expect(await store.complete('a', token, ttlMs)).toBe(true);
      expect(await store.claim('a', leaseMs)).toEqual({ status: 'completed' });
    });

    test('does not complete or release twice', async () => {
      const token = await claimed('a');
      await store.complete('a', token, ttlMs);
      expect(await store.complete('a', token, ttlMs)).toBe(false);
      expect(await store.release('a', token)).toBe(false);
      expect(await store.renew('a', token, leaseMs)).toBe(false);
      expect(await store.claim('a', leaseMs)).toEqual({ status: 'completed' });
    });

    test('gives an id back at once when it is released', async () => {
      const token = await claimed('a');
      expect(await store.release('a', token)).toBe(true);
      expect(await store.claim('a', leaseMs)).toMatchObject({ status: 'claimed' });
    });

    test('obeys the owner only', async () => {
      await claimed('a');
      expect(await store.renew('a', 'somebody', leaseMs)).toBe(false);
      expect(await store.release('a', 'somebody')).toBe(false);
      expect(await store.complete('a', 'somebody', ttlMs)).toBe(false);
      expect(await store.claim('a', leaseMs)).toMatchObject({ status: 'processing' });
    });
  });
}

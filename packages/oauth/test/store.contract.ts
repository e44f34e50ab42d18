import type { Claim, ClaimRequest, TokenStore } from '@countersign/oauth';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

/** A store under test. */
export interface StoreUnderTest {
  readonly store: TokenStore;
  /** Another client of the same memory, as a second process would have. Default: the same one. */
  readonly other?: TokenStore;
  /** Makes the store believe that this much time has passed. */
  advance(ms: number): void | Promise<void>;
  close?(): void | Promise<void>;
}

/**
 * What every `TokenStore` must do. Call it in a test file of your own store.
 * @param create - makes an empty store; called before every test.
 */
export function tokenStoreContract(
  name: string,
  create: () => StoreUnderTest | Promise<StoreUnderTest>,
): void {
  describe(`${name}: token store contract`, () => {
    let under: StoreUnderTest;
    let a: TokenStore;
    let b: TokenStore;

    beforeEach(async () => {
      under = await create();
      a = under.store;
      b = under.other ?? under.store;
    });
    afterEach(async () => {
      await under.close?.();
    });

    // Minutes: the time that really passes meanwhile, on a busy machine, must make no difference.
    const claim = (store: TokenStore, owner: string, more: Partial<ClaimRequest> = {}) =>
      store.claim('key', { owner, leaseMs: 60_000, generation: 0, ...more });
    const complete = (store: TokenStore, owner: string, value: string, generation = 0) =>
      store.complete('key', { owner, value, ttlMs: 600_000, generation });

    test('gives a claim to one, and its result to the rest', async () => {
      expect(await claim(a, 'a')).toEqual({ status: 'claimed', generation: 0 });
      expect(await claim(b, 'b')).toEqual({ status: 'held', remainingMs: expect.any(Number) });
      expect(await complete(a, 'a', 'first')).toBe(1);
      const current = { status: 'current', value: 'first', generation: 1 };
      await under.advance(240_000);
      const found = await claim(b, 'b');
      expect(found).toEqual({ ...current, remainingMs: expect.any(Number) });
      const { remainingMs } = found as Extract<Claim, { status: 'current' }>;
      expect(remainingMs).toBeGreaterThan(0);
      expect(remainingMs).toBeLessThanOrEqual(360_000);
    });

    test('of many claims at once grants one', async () => {
      const claims = await Promise.all(
        Array.from({ length: 50 }, (_, index) => claim(index % 2 ? a : b, `o${index}`)),
      );
      const count = (status: Claim['status']) =>
        claims.filter((one) => one.status === status).length;
      expect([count('claimed'), count('held')]).toEqual([1, 49]);
    });

    test('asking again under the same name is asking once, and holds from then on', async () => {
      await claim(a, 'a');
      await under.advance(54_000);
      expect(await claim(b, 'a')).toEqual({ status: 'claimed', generation: 0 });
      await under.advance(54_000);
      expect(await claim(b, 'b')).toMatchObject({ status: 'held' });
    });

    test('hands the old value to whoever may replace it, and keeps it for the rest', async () => {
      await claim(a, 'a');
      await complete(a, 'a', 'first');
      expect(await claim(a, 'a2', { generation: 1 })).toEqual({
        status: 'claimed',
        value: 'first',
        generation: 1,
      });
      expect(await claim(b, 'b')).toMatchObject({ status: 'current', value: 'first' });
      expect(await claim(b, 'b', { generation: 1 })).toMatchObject({ status: 'held' });
      expect(await complete(a, 'a2', 'second', 1)).toBe(2);
      expect(await claim(b, 'b', { generation: 1 })).toMatchObject({
        value: 'second',
        generation: 2,
      });
    });

    test('generations grow even where the store knows of fewer', async () => {
      await claim(a, 'a', { generation: 7 });
      expect(await complete(a, 'a', 'value', 7)).toBe(8);
    });

    test('lets a lease that ended be taken, and fences its late owner', async () => {
      await claim(a, 'a');
      await under.advance(60_001);
      expect(await claim(b, 'b')).toMatchObject({ status: 'claimed' });
      expect(await complete(a, 'a', 'late')).toBeUndefined();
      await a.release('key', { owner: 'a' });
      expect(await complete(b, 'b', 'timely')).toBe(1);
    });

    test('accepts a late owner whom nobody replaced', async () => {
      await claim(a, 'a');
      await under.advance(60_001);
      expect(await complete(a, 'a', 'late')).toBe(1);
    });

    test('takes the result of a claim that it has forgotten', async () => {
      expect(await complete(a, 'a', 'value')).toBe(1);
      expect(await complete(b, 'b', 'another')).toBeUndefined();
      expect(await claim(b, 'b')).toMatchObject({ status: 'current', value: 'value' });
    });

    test('takes what replaces the newest that it knows of, though it has forgotten the claim', async () => {
      expect(await complete(a, 'a', 'first')).toBe(1);
      expect(await complete(b, 'b', 'second', 1)).toBe(2);
      expect(await complete(a, 'a', 'older', 1)).toBeUndefined();
      expect(await claim(b, 'b', { generation: 1 })).toMatchObject({ value: 'second' });
    });

    test('forgets values that expired', async () => {
      await claim(a, 'a');
      await complete(a, 'a', 'value');
      await under.advance(600_001);
      expect(await claim(b, 'b')).toMatchObject({ status: 'claimed' });
    });

    test('a released claim is free at once', async () => {
      await claim(a, 'a');
      await a.release('key', { owner: 'a' });
      expect(await claim(b, 'b')).toMatchObject({ status: 'claimed' });
    });

    test('tells others of a refusal, for a while', async () => {
      await claim(a, 'a');
      await a.release('key', { owner: 'a', refused: { reason: 'invalid_client', ttlMs: 30_000 } });
      expect(await claim(b, 'b')).toMatchObject({ status: 'refused', reason: 'invalid_client' });
      await under.advance(30_001);
      expect(await claim(b, 'b')).toMatchObject({ status: 'claimed' });
      await complete(b, 'b', 'value');
      expect(await claim(a, 'a')).toMatchObject({ status: 'current', value: 'value' });
    });

    test('an intent outlives its lease, and only its owner may complete it', async () => {
      await claim(a, 'a', { journal: true });
      await under.advance(60_001);
      expect(await claim(b, 'b', { journal: true })).toEqual({
        status: 'ambiguous',
        sinceMs: expect.any(Number),
      });
      expect(await complete(b, 'b', 'stolen')).toBeUndefined();
      expect(await complete(a, 'a', 'late')).toBe(1);
      expect(await claim(b, 'b', { generation: 1, journal: true })).toMatchObject({
        status: 'claimed',
        value: 'late',
      });
    });

    test('an intent can end with its lease, be left behind, or be taken over in time', async () => {
      await claim(a, 'a', { journal: true });
      await a.release('key', { owner: 'a', keepIntent: true });
      expect(await claim(b, 'b', { journal: true })).toMatchObject({ status: 'ambiguous' });
      await under.advance(120_000);
      expect(await claim(b, 'b', { journal: true, takeOverWithinMs: 60_000 })).toMatchObject({
        status: 'ambiguous',
      });
      expect(await claim(b, 'b', { journal: true, takeOverWithinMs: 300_000 })).toMatchObject({
        status: 'claimed',
      });
      expect(await complete(a, 'a', 'late')).toBeUndefined();
      // Not used by its second owner: what became of it with the first is as little known as before.
      await b.release('key', { owner: 'b' });
      expect(await claim(a, 'a2', { journal: true })).toMatchObject({ status: 'ambiguous' });
      const again = { journal: true, takeOverWithinMs: 300_000 };
      expect(await claim(a, 'a2', again)).toMatchObject({ status: 'claimed' });
      expect(await complete(a, 'a2', 'known')).toBe(1);
      expect(await claim(b, 'b', { generation: 1, journal: true })).toMatchObject({
        status: 'claimed',
      });
    });

    test('keeps keys apart', async () => {
      await claim(a, 'a');
      const request = { owner: 'b', leaseMs: 60_000, generation: 0 };
      expect(await b.claim('other key', request)).toMatchObject({ status: 'claimed' });
    });

    test('keeps values as they are', async () => {
      const value = JSON.stringify({ 'ü "\\\n\u0000': 'x'.repeat(20_000) });
      await claim(a, 'a');
      await complete(a, 'a', value);
      expect(await claim(b, 'b')).toMatchObject({ value });
    });
  });
}

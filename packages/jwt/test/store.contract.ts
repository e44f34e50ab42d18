import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { DenylistStore, DpopReplayStore } from '../src/store.ts';

/** What the contract needs to try a store. */
export interface StoreUnderTest<S> {
  readonly store: S;
  /** Makes this much time pass for the store: by an injected clock, or by bringing what it keeps nearer to its end. */
  readonly pass: (ms: number) => void | Promise<void>;
}

/** What every {@link DenylistStore} must do. Call it in a test file of yours. */
export function denylistStoreContract(
  name: string,
  make: () => StoreUnderTest<DenylistStore> | Promise<StoreUnderTest<DenylistStore>>,
): void {
  describe(`${name} as a DenylistStore`, () => {
    it('has what was added, and nothing else', async () => {
      const { store } = await make();
      const id = randomUUID();
      expect(await store.has(id)).toBe(false);
      await store.add(id, 3_600_000);
      expect(await store.has(id)).toBe(true);
      expect(await store.has(`${id}x`)).toBe(false);
      expect(await store.has(id.toUpperCase())).toBe(false);
    });

    it('forgets when the time is over, and not before', async () => {
      const { store, pass } = await make();
      const id = randomUUID();
      await store.add(id, 240_000);
      await pass(60_000);
      expect(await store.has(id)).toBe(true);
      await pass(240_000);
      expect(await store.has(id)).toBe(false);
    });

    it('lengthens a time, and never shortens one', async () => {
      const { store, pass } = await make();
      const [lengthened, kept] = [randomUUID(), randomUUID()];
      await store.add(lengthened, 60_000);
      await store.add(lengthened, 3_600_000);
      await store.add(kept, 3_600_000);
      await store.add(kept, 60_000);
      await pass(180_000);
      expect(await store.has(lengthened)).toBe(true);
      expect(await store.has(kept)).toBe(true);
    });

    it('takes the same again, many at a time', async () => {
      const { store } = await make();
      const ids = Array.from({ length: 50 }, () => randomUUID());
      await Promise.all([...ids, ...ids].map(async (id) => store.add(id, 3_600_000)));
      expect(await Promise.all(ids.map(async (id) => store.has(id)))).toEqual(ids.map(() => true));
    });
  });
}

/** What every {@link DpopReplayStore} must do. Call it in a test file of yours. */
export function dpopReplayStoreContract(
  name: string,
  make: () => StoreUnderTest<DpopReplayStore> | Promise<StoreUnderTest<DpopReplayStore>>,
): void {
  describe(`${name} as a DpopReplayStore`, () => {
    it('gives an identifier once', async () => {
      const { store } = await make();
      const id = randomUUID();
      expect(await store.claim(id, 3_600_000)).toBe(true);
      expect(await store.claim(id, 3_600_000)).toBe(false);
      expect(await store.claim(`${id}x`, 3_600_000)).toBe(true);
    });

    it('gives it to one of many who ask at once', async () => {
      const { store } = await make();
      const id = randomUUID();
      const answers = await Promise.all(
        Array.from({ length: 50 }, async () => store.claim(id, 3_600_000)),
      );
      expect(answers.filter((answer) => answer)).toHaveLength(1);
    });

    it('gives it again when the time is over, and not before', async () => {
      const { store, pass } = await make();
      const id = randomUUID();
      await store.claim(id, 240_000);
      await pass(60_000);
      expect(await store.claim(id, 3_600_000)).toBe(false);
      await pass(240_000);
      expect(await store.claim(id, 3_600_000)).toBe(true);
    });

    it('does not lengthen the time for those who come too late', async () => {
      const { store, pass } = await make();
      const id = randomUUID();
      await store.claim(id, 180_000);
      await store.claim(id, 3_600_000);
      await pass(240_000);
      expect(await store.claim(id, 3_600_000)).toBe(true);
    });
  });
}

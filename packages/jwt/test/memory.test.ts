import { describe, expect, it } from 'vitest';
import { memoryDenylistStore, memoryDpopReplayStore } from '../src/index.ts';
import { refusal } from './refusal.ts';
import { denylistStoreContract, dpopReplayStoreContract } from './store.contract.ts';

function clock() {
  let time = 1e12;
  return {
    now: () => time,
    pass: (ms: number) => {
      time += ms;
    },
  };
}

denylistStoreContract('memoryDenylistStore', () => {
  const { now, pass } = clock();
  return { store: memoryDenylistStore({ now }), pass };
});

dpopReplayStoreContract('memoryDpopReplayStore', () => {
  const { now, pass } = clock();
  return { store: memoryDpopReplayStore({ now }), pass };
});

describe('a memory store whose clock gives no time', () => {
  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'says so, and does not take what is in it for expired: %s',
    async (wrong) => {
      let time = 1e12;
      const now = () => time;
      const [denylist, proofs] = [memoryDenylistStore({ now }), memoryDpopReplayStore({ now })];
      await denylist.add('a', 1000);
      await proofs.claim('a', 1000);
      time = wrong;
      for (const ask of [
        () => denylist.has('a'),
        () => denylist.add('b', 1000),
        () => proofs.claim('a', 1000),
        () => proofs.claim('b', 1000),
      ])
        expect(ask).toThrow(refusal('ERR_JWT_CLOCK'));
      time = 1e12;
      expect([denylist.has('a'), proofs.claim('a', 1000)]).toEqual([true, false]);
    },
  );
});

describe('a memory store that is full', () => {
  it('refuses to revoke rather than forget what is revoked', async () => {
    const { now, pass } = clock();
    const store = memoryDenylistStore({ maxEntries: 2, now });
    await store.add('a', 1000);
    await store.add('b', 5000);
    expect(() => store.add('c', 1000)).toThrow(refusal('ERR_JWT_DENYLIST_FULL'));
    await store.add('a', 2000);
    expect([store.has('a'), store.has('b'), store.has('c')]).toEqual([true, true, false]);
    pass(2000);
    await store.add('c', 1000);
    expect([store.has('a'), store.has('b'), store.has('c')]).toEqual([false, true, true]);
  });

  it.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])(
    'cannot be made for %s entries',
    (maxEntries) => {
      expect(() => memoryDenylistStore({ maxEntries })).toThrow(/maxEntries/);
    },
  );
});

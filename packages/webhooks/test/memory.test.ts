import { fakeClock } from '@countersign/testkit/clock';
import { describe, expect, it } from 'vitest';
import { memoryReplayStore } from '../src/index.ts';
import { replayStoreContract } from './store.contract.ts';

replayStoreContract('memory', () => {
  const clock = fakeClock();
  return { store: memoryReplayStore({ now: clock.now }), advance: (ms) => clock.advance(ms) };
});

describe('memoryReplayStore', () => {
  it('forgets the id that was completed longest ago when it is full', async () => {
    const store = memoryReplayStore({ maxEntries: 2 });
    for (const id of ['a', 'b', 'c']) {
      const claim = await store.claim(id, 1000);
      if (claim.status === 'claimed') await store.complete(id, claim.token, 10_000);
    }
    expect(await store.claim('b', 1000)).toEqual({ status: 'completed' });
    expect(await store.claim('c', 1000)).toEqual({ status: 'completed' });
    expect(await store.claim('a', 1000)).toMatchObject({ status: 'claimed' });
  });

  it('remembers 100,000 ids unless told otherwise', async () => {
    const store = memoryReplayStore();
    for (let index = 0; index <= 100_000; index += 1) {
      const claim = await store.claim(`id_${index}`, 1000);
      await store.complete(`id_${index}`, 'token' in claim ? claim.token : '', 60_000);
    }
    expect(await store.claim('id_1', 1000)).toEqual({ status: 'completed' });
    expect(await store.claim('id_0', 1000)).toMatchObject({ status: 'claimed' });
  });

  it('never forgets one that is being processed', async () => {
    const clock = fakeClock();
    const store = memoryReplayStore({ maxEntries: 1, now: clock.now });
    await store.claim('a', 1000);
    await expect(store.claim('b', 1000)).rejects.toMatchObject({
      code: 'ERR_WEBHOOKS_STORE_FAILED',
    });
    clock.advance(1001);
    expect(await store.claim('b', 1000)).toMatchObject({ status: 'claimed' });
  });
});

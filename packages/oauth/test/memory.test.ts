import { memoryTokenStore } from '@countersign/oauth';
import { fakeClock } from '@countersign/testkit/clock';
import { expect, it } from 'vitest';
import { tokenStoreContract } from './store.contract.ts';

tokenStoreContract('memory', () => {
  const clock = fakeClock();
  return { store: memoryTokenStore({ now: clock.now }), advance: (ms) => clock.advance(ms) };
});

it('is bounded', async () => {
  const store = memoryTokenStore({ maxEntries: 2 });
  const request = { owner: 'a', leaseMs: 1000, generation: 0 };
  for (const key of ['1', '2', '3']) await store.claim(key, request);
  expect(await store.claim('1', { ...request, owner: 'b' })).toMatchObject({ status: 'claimed' });
  expect(await store.claim('3', { ...request, owner: 'b' })).toMatchObject({ status: 'held' });
  expect(() => memoryTokenStore({ maxEntries: 0 })).toThrow(TypeError);
});

import {
  type ApiKeyStore,
  type ChangeListener,
  createApiKeys,
  memoryApiKeyStore,
} from '@countersign/api-keys';
import { describe, expect, it, vi } from 'vitest';
import { counted, managed, PEPPER_1, START_MS } from './fixtures.ts';

/** A store whose readings arrive when the test says so. */
function held(store: ApiKeyStore): { store: ApiKeyStore; release: () => void } {
  let waiting: (() => void)[] = [];
  return {
    store: {
      ...store,
      async find(id) {
        const found = await store.find(id); // read now, delivered later
        await new Promise<void>((resolve) => waiting.push(resolve));
        return found;
      },
    },
    release() {
      for (const resolve of waiting) resolve();
      waiting = [];
    },
  };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('cache', () => {
  it('is not filled by a reading that a revocation has overtaken', async () => {
    const memory = memoryApiKeyStore();
    const { store, release } = held(memory);
    const { keys } = managed({ store });
    const { key, record } = await keys.create({ owner: 'a', scopes: [] });
    const racing = keys.verify(key);
    await turn();
    await keys.revoke(record.id, { reason: 'lost' });
    release();
    // This one began before the revocation and may still be answered by what was read then…
    expect((await racing).status).toBe('valid');
    // …but what it read must not answer the next one.
    const next = keys.verify(key);
    await turn();
    release();
    expect((await next).status).toBe('revoked');
  });

  it('is evicted by changes that others make', async () => {
    const store = memoryApiKeyStore();
    const here = managed({ store });
    const there = managed({ store });
    const { key, record } = await here.keys.create({ owner: 'a', scopes: [] });
    expect((await here.keys.verify(key)).status).toBe('valid');
    await there.keys.revoke(record.id, { reason: 'lost' });
    expect((await here.keys.verify(key)).status).toBe('revoked');
  });

  it('is flushed when messages may have been lost', async () => {
    let tell: ChangeListener = () => {};
    const memory = memoryApiKeyStore();
    const { store, finds } = counted({
      ...memory,
      subscribe: (listener) => {
        tell = listener;
        return () => {};
      },
    });
    const { keys } = managed({ store });
    const { key } = await keys.create({ owner: 'a', scopes: [] });
    await keys.verify(key);
    await keys.verify(key);
    expect(finds()).toBe(1);
    tell('all');
    await keys.verify(key);
    expect(finds()).toBe(2);
  });

  it('bounds how long a revocation goes unnoticed by its TTL when no message arrives, from the moment of reading', async () => {
    const { subscribe: _, ...deaf } = memoryApiKeyStore();
    const { store, release } = held(deaf);
    const here = managed({ store });
    const there = managed({ store: deaf });
    const { key, record } = await here.keys.create({ owner: 'a', scopes: [] });
    const first = here.keys.verify(key);
    here.clock.ms += 3000; // the store took three seconds to answer
    await turn();
    release();
    expect((await first).status).toBe('valid');
    await there.keys.revoke(record.id, { reason: 'lost' });
    here.clock.ms += 1999;
    expect((await here.keys.verify(key)).status).toBe('valid');
    here.clock.ms += 1;
    const next = here.keys.verify(key);
    await turn();
    release();
    expect((await next).status).toBe('revoked');
  });

  it('prolongs nothing when the clock is set back', async () => {
    const { subscribe: _, ...deaf } = memoryApiKeyStore();
    const { store, finds } = counted(deaf);
    const { keys, clock } = managed({ store });
    const { key } = await keys.create({ owner: 'a', scopes: [] });
    await keys.verify(key);
    clock.ms -= 60_000;
    await keys.verify(key);
    expect(finds()).toBe(2);
  });

  it('keeps so many keys at most, and so many unknown texts', async () => {
    const { store, finds } = counted(memoryApiKeyStore());
    const { keys } = managed({ store, cache: { maxEntries: 2, maxNegativeEntries: 1 } });
    const created = await Promise.all([1, 2, 3].map(() => keys.create({ owner: 'a', scopes: [] })));
    for (const { key } of created) await keys.verify(key);
    await keys.verify(created[2]?.key ?? '');
    await keys.verify(created[1]?.key ?? '');
    expect(finds()).toBe(3);
    await keys.verify(created[0]?.key ?? '');
    expect(finds()).toBe(4);
    const strangers = await Promise.all(
      [1, 2].map(() => managed().keys.create({ owner: 'a', scopes: [] })),
    );
    for (const { key } of strangers) await keys.verify(key);
    await keys.verify(strangers[1]?.key ?? '');
    expect(finds()).toBe(6);
    await keys.verify(strangers[0]?.key ?? '');
    expect(finds()).toBe(7);
  });

  it('does not let a wrong secret in by a cached id, nor push the right one out', async () => {
    const { store, finds } = counted(memoryApiKeyStore());
    const { keys } = managed({ store });
    const { key } = await keys.create({ owner: 'a', scopes: [] });
    await keys.verify(key);
    const { keys: forger } = managed({ peppers: 'none' });
    const forged = await forger.create({ owner: 'a', scopes: [] });
    expect((await keys.verify(forged.key)).status).toBe('unknown');
    expect(finds()).toBe(2);
    await keys.verify(key);
    expect(finds()).toBe(2);
  });

  it('does not outlive a rotation with no overlap, here or elsewhere', async () => {
    const store = memoryApiKeyStore();
    const here = managed({ store });
    const there = managed({ store });
    const { key, record } = await here.keys.create({ owner: 'a', scopes: [] });
    await here.keys.verify(key);
    await there.keys.rotate(record.id, { overlapSeconds: 0 });
    expect((await here.keys.verify(key)).status).toBe('expired');
  });

  it('stops listening when closed', async () => {
    let listeners = 0;
    const store = {
      ...memoryApiKeyStore(),
      subscribe: () => {
        listeners += 1;
        return () => {
          listeners -= 1;
        };
      },
    };
    const { keys } = managed({ store });
    expect(listeners).toBe(0);
    const { key } = await keys.create({ owner: 'a', scopes: [] });
    await keys.verify(key);
    expect(listeners).toBe(1);
    await keys.close();
    expect(listeners).toBe(0);
    expect((await keys.verify(key)).status).toBe('valid');
    expect(listeners).toBe(0);
  });
});

describe('a wall clock that is set back', () => {
  it('does not prolong what is cached', async () => {
    const ticks = vi.spyOn(performance, 'now').mockReturnValue(0);
    const wall = vi.spyOn(Date, 'now').mockReturnValue(START_MS);
    try {
      const { store, finds } = counted(memoryApiKeyStore());
      const keys = createApiKeys({ store, peppers: [PEPPER_1] });
      const { key } = await keys.create({ owner: 'acme', scopes: [] });
      wall.mockReturnValue(START_MS + 10_000);
      await keys.verify(key);
      wall.mockReturnValue(START_MS + 11_000); // eight seconds later, and set back by seven
      ticks.mockReturnValue(8_000);
      await keys.verify(key);
      expect(finds()).toBe(2);
      await keys.close();
    } finally {
      ticks.mockRestore();
      wall.mockRestore();
    }
  });
});

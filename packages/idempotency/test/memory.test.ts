import { fakeClock } from '@countersign/testkit/clock';
import { describe, expect, test } from 'vitest';
import { memoryIdempotencyStore } from '../src/memory.ts';
import type { Claim, HeldClaim } from '../src/store.ts';
import { idempotencyStoreContract } from './store.contract.ts';

idempotencyStoreContract('memory', () => {
  const clock = fakeClock();
  return { store: memoryIdempotencyStore({ now: clock.now }), advance: clock.advance };
});

describe('memoryIdempotencyStore', () => {
  test('refuses limits that make no sense', () => {
    expect(() => memoryIdempotencyStore({ maxEntries: 0 })).toThrow(/maxEntries/);
    expect(() => memoryIdempotencyStore({ maxBytes: 1.5 })).toThrow(/maxBytes/);
  });

  test('never forgets an outcome to make room: it refuses new requests', async () => {
    const store = memoryIdempotencyStore({ maxEntries: 2 });
    const held = await acquire(store, claimOf('1'));
    await store.complete(held, Buffer.from('kept'));
    await acquire(store, claimOf('2'));
    await expect(store.begin(claimOf('3'), { takeover: false })).rejects.toMatchObject({
      code: 'ERR_IDEMPOTENCY_STORE_FULL',
    });
    expect(await store.begin(claimOf('1', 'other'), { takeover: false })).toMatchObject({
      state: 'completed',
    });
  });

  test('makes room when records expire, also behind records that live longer', async () => {
    const clock = fakeClock();
    const store = memoryIdempotencyStore({ maxEntries: 2, now: clock.now });
    await acquire(store, { ...claimOf('long'), ttlMs: 100_000 });
    await acquire(store, { ...claimOf('short'), ttlMs: 10_000 });
    clock.advance(10_000);
    await acquire(store, claimOf('3'));
    expect(store.entries).toBe(2);
  });

  test('keeps the record without its payload when there is no room for it', async () => {
    const store = memoryIdempotencyStore({ maxBytes: 1000 });
    const held = await acquire(store, claimOf('1'));
    expect(await store.complete(held, Buffer.alloc(2000))).toBe(true);
    const begun = await store.begin(claimOf('1', 'other'), { takeover: false });
    expect(begun.state === 'completed' && begun.payload.byteLength).toBe(0);
  });

  test('keeps bytes of its own: not those it was given, nor the memory around them', async () => {
    const store = memoryIdempotencyStore();
    const given = Buffer.from('kept'); // a slice of a pool of many kilobytes
    await store.complete(await acquire(store, claimOf('1')), given);
    given.fill(0);
    const begun = await store.begin(claimOf('1', 'other'), { takeover: false });
    const payload = begun.state === 'completed' ? begun.payload : new Uint8Array();
    expect(Buffer.from(payload).toString()).toBe('kept');
    expect(payload.buffer.byteLength).toBe(4);
  });

  test('counts what it keeps, and nothing once it is gone', async () => {
    const clock = fakeClock();
    const store = memoryIdempotencyStore({ now: clock.now });
    const held = await acquire(store, claimOf('1'));
    const before = store.bytes;
    await store.complete(held, Buffer.alloc(500));
    expect(store.bytes).toBe(before + 500);
    clock.advance(held.ttlMs);
    await acquire(store, claimOf('2'));
    expect(store).toMatchObject({ entries: 1, bytes: before });
  });
});

async function acquire(
  store: ReturnType<typeof memoryIdempotencyStore>,
  claim: Claim,
): Promise<HeldClaim> {
  const begun = await store.begin(claim, { takeover: false });
  if (begun.state !== 'acquired') throw new Error(begun.state);
  return { ...claim, fence: begun.fence };
}

function claimOf(id: string, owner = 'owner'): Claim {
  return { id, owner, fingerprint: 'f', leaseMs: 30_000, ttlMs: 60_000 };
}

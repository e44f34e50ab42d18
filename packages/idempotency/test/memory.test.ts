import { fakeClock } from '@countersign/testkit/clock';
import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
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

  test('refuses a clock that is none, and options that there are not', () => {
    expect(() => memoryIdempotencyStore({ now: 0 as never })).toThrow(/^now: /);
    expect(() => memoryIdempotencyStore({ maxEntires: 9 } as never)).toThrow(/^maxEntires: /);
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

  test('keeps a released record for a lease only', async () => {
    const clock = fakeClock();
    const store = memoryIdempotencyStore({ maxEntries: 1, now: clock.now });
    await store.release(await acquire(store, claimOf('1')));
    clock.advance(30_000);
    await acquire(store, claimOf('2'));
    expect(store.entries).toBe(1);
  });

  test('keeps the record without its payload when there is no room for it', async () => {
    const store = memoryIdempotencyStore({ maxBytes: 1000 });
    const held = await acquire(store, claimOf('1'));
    expect(await store.complete(held, Buffer.alloc(2000))).toBe(true);
    const begun = await store.begin(claimOf('1', 'other'), { takeover: false });
    expect(begun.state === 'completed' && begun.payload.byteLength).toBe(0);
  });

  test('keeps bytes of its own: neither those it was given nor those it gave', async () => {
    const store = memoryIdempotencyStore();
    const given = Buffer.from([0, 127, 128, 255]);
    await store.complete(await acquire(store, claimOf('1')), given);
    given.fill(1);
    for (const owner of ['first', 'second']) {
      const begun = await store.begin(claimOf('1', owner), { takeover: false });
      const payload = begun.state === 'completed' ? begun.payload : new Uint8Array();
      expect([...payload]).toEqual([0, 127, 128, 255]);
      payload.fill(1);
    }
  });

  test('makes room behind a record that was renewed', async () => {
    const clock = fakeClock();
    const store = memoryIdempotencyStore({ now: clock.now });
    const renewed = await acquire(store, claimOf('renewed'));
    await acquire(store, claimOf('short'));
    clock.advance(30_000);
    await store.renew(renewed);
    clock.advance(30_000);
    await acquire(store, claimOf('3'));
    expect(store.entries).toBe(2);
  });

  test('holds 100,000 records unless told otherwise', async () => {
    const store = memoryIdempotencyStore();
    for (let at = 0; at < 100_000; at += 1) await acquire(store, claimOf(`${at}`));
    const full = expect.objectContaining({ code: 'ERR_IDEMPOTENCY_STORE_FULL' });
    await expect(acquire(store, claimOf('more'))).rejects.toEqual(full);
  });

  test('looks through all of its records once per second at most: that is dear', async () => {
    const clock = fakeClock();
    const store = memoryIdempotencyStore({ maxEntries: 2, now: clock.now });
    await acquire(store, { ...claimOf('long'), ttlMs: 100_000 });
    await acquire(store, { ...claimOf('short'), ttlMs: 30_500 });
    clock.advance(30_000);
    const full = expect.objectContaining({ code: 'ERR_IDEMPOTENCY_STORE_FULL' });
    await expect(acquire(store, claimOf('3'))).rejects.toEqual(full);
    clock.advance(999);
    await expect(acquire(store, claimOf('3'))).rejects.toEqual(full);
    clock.advance(1);
    await acquire(store, claimOf('3'));
    expect(store.entries).toBe(2);
  });

  test('holds as many bytes as it may, to the last one', async () => {
    const record = 200 + 'i'.length + 'f'.length;
    const exact = memoryIdempotencyStore({ maxBytes: 2 * record + 10 });
    const held = await acquire(exact, claimOf('1'));
    await exact.complete(held, Buffer.alloc(10));
    await acquire(exact, claimOf('2'));
    expect(exact.bytes).toBe(2 * record + 10);
    const short = memoryIdempotencyStore({ maxBytes: 2 * record - 1 });
    await acquire(short, claimOf('1'));
    await expect(acquire(short, claimOf('2'))).rejects.toMatchObject({
      code: 'ERR_IDEMPOTENCY_STORE_FULL',
    });
  });

  describe('looks behind records that live longer before it', () => {
    const clock = fakeClock();
    let store: ReturnType<typeof memoryIdempotencyStore>;
    let held: HeldClaim;

    // 1000 bytes, of which 300 are to expire.
    beforeEach(async () => {
      store = memoryIdempotencyStore({ maxBytes: 1000, now: clock.now });
      held = await acquire(store, { ...claimOf('long'), ttlMs: 100_000 });
      const short = await acquire(store, { ...claimOf('short'), ttlMs: 30_000 });
      await store.complete(short, Buffer.alloc(300 - 200 - 'shortf'.length));
      clock.advance(30_000);
    });

    test('leaves a payload out', async () => {
      await store.complete(held, Buffer.alloc(700));
      expect(await store.begin(claimOf('long', 'other'), { takeover: false })).toMatchObject({
        payload: expect.objectContaining({ byteLength: 700 }),
      });
    });

    test('refuses a request', async () => {
      await store.complete(held, Buffer.alloc(400));
      await acquire(store, claimOf('another'));
      expect(store.entries).toBe(2);
    });
  });

  test('counts a record once, however often it is taken over or put back', async () => {
    const clock = fakeClock();
    const store = memoryIdempotencyStore({ now: clock.now });
    const held = await acquire(store, claimOf('1'));
    const before = store.bytes;
    await store.complete(held, Buffer.alloc(500));
    clock.advance(held.ttlMs);
    await store.renew(held);
    clock.advance(held.leaseMs);
    await store.begin(claimOf('1', 'other'), { takeover: true });
    expect(store).toMatchObject({ entries: 1, bytes: before });
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

  test('counts right whatever the order, within its bounds, and is empty in the end', async () => {
    const id = fc.constantFrom('a', 'b', 'c');
    const step = fc.oneof(
      fc.record({
        do: fc.constant('begin' as const),
        id,
        fingerprint: fc.constantFrom('f', 'g'),
      }),
      fc.record({
        do: fc.constantFrom(
          'renew' as const,
          'complete' as const,
          'release' as const,
          'abandon' as const,
        ),
        claim: fc.nat(3),
        payloadBytes: fc.nat(300),
      }),
      fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(10_000, 31_000, 59_000) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const clock = fakeClock();
        const store = memoryIdempotencyStore({ maxBytes: 500, now: clock.now });
        const held: HeldClaim[] = [];
        for (const [index, taken] of steps.entries()) {
          if (taken.do === 'wait') clock.advance(taken.ms);
          else if (taken.do === 'begin') {
            const claim = {
              ...claimOf(taken.id, `owner-${index}`),
              fingerprint: taken.fingerprint,
            };
            const begun = await store.begin(claim, { takeover: true }).catch(() => undefined);
            if (begun?.state === 'acquired') held.unshift({ ...claim, fence: begun.fence });
          } else {
            const claim = held[taken.claim];
            // An owner that stood still for its record's whole lifetime may exceed the bounds.
            const isThere =
              claim && (await store.begin(claim, { takeover: false }).catch(() => undefined));
            if (isThere?.state !== 'acquired' || isThere.fence !== claim?.fence) continue;
            await (taken.do === 'complete'
              ? store.complete(claim, Buffer.alloc(taken.payloadBytes))
              : store[taken.do](claim));
          }
          expect(store.bytes).toBeLessThanOrEqual(500);
        }
        clock.advance(60_000);
        await acquire(store, claimOf('last'));
        expect(store).toMatchObject({ entries: 1, bytes: 200 + 'lastf'.length });
      }),
      { numRuns: 1000 },
    );
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

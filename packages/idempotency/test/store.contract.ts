import type { Begun, Claim, HeldClaim, IdempotencyStore } from '@countersign/idempotency';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RecordModel } from './store.model.ts';

/** A store under test. */
export interface StoreUnderTest {
  readonly store: IdempotencyStore;
  /** Makes the store believe that this much time has passed. */
  advance(ms: number): void | Promise<void>;
  close?(): void | Promise<void>;
}

const leaseMs = 60_000;
const ttlMs = 600_000;
const payload = Buffer.from('201\n\n{"id":1}');
const binary = Buffer.from(Array.from({ length: 1024 }, (_, index) => index % 256));

/**
 * What every `IdempotencyStore` must do. Call it in a test file of your own store.
 * @param create - makes an empty store; called before every test.
 */
export function idempotencyStoreContract(
  name: string,
  create: () => StoreUnderTest | Promise<StoreUnderTest>,
): void {
  describe(`${name}: idempotency store contract`, () => {
    let under: StoreUnderTest;
    let store: IdempotencyStore;

    beforeEach(async () => {
      under = await create();
      store = under.store;
    });

    afterEach(async () => {
      await under.close?.();
    });

    const acquire = async (claim: Claim, takeover = false): Promise<HeldClaim> => {
      const begun = await store.begin(claim, { takeover });
      if (begun.state !== 'acquired') throw new Error(`expected to acquire, got ${begun.state}`);
      return { ...claim, fence: begun.fence };
    };

    describe('begin', () => {
      test('acquires an absent record', async () => {
        expect(await begin(store, claimOf('a'))).toMatchObject({
          state: 'acquired',
          recovered: false,
        });
      });

      test('says that another owner is processing', async () => {
        await acquire(claimOf('a'));
        expect(await begin(store, claimOf('b'))).toEqual({ state: 'processing' });
        expect(await begin(store, claimOf('b'), true)).toEqual({ state: 'processing' });
      });

      test('says the same when the owner asks again', async () => {
        const { fence } = await acquire(claimOf('a'));
        expect(await begin(store, claimOf('a'))).toMatchObject({ state: 'acquired', fence });
      });

      test('keeps records apart', async () => {
        await acquire(claimOf('a'));
        expect(await begin(store, { ...claimOf('b'), id: 'another' })).toMatchObject({
          state: 'acquired',
        });
      });

      test('one of a hundred at once acquires', async () => {
        const begun = await Promise.all(
          Array.from({ length: 100 }, (_, index) => begin(store, claimOf(`o${index}`))),
        );
        expect(begun.filter(({ state }) => state === 'acquired')).toHaveLength(1);
        expect(begun.filter(({ state }) => state === 'processing')).toHaveLength(99);
      });

      test('one of a hundred at once takes over', async () => {
        await acquire(claimOf('a'));
        await under.advance(leaseMs);
        const begun = await Promise.all(
          Array.from({ length: 100 }, (_, index) => begin(store, claimOf(`o${index}`), true)),
        );
        expect(begun.filter(({ state }) => state === 'acquired')).toHaveLength(1);
      });

      test.each(['processing', 'unknown', 'completed'])(
        'tells another fingerprint from the same one: %s',
        async (state) => {
          const held = await acquire(claimOf('a'));
          if (state === 'unknown') await store.abandon(held);
          if (state === 'completed') await store.complete(held, payload);
          const other = { ...claimOf('b'), fingerprint: 'f'.repeat(43) };
          expect(await begin(store, other)).toEqual({ state: 'mismatch' });
          expect(await begin(store, other, true)).toEqual({ state: 'mismatch' });
        },
      );
    });

    describe('a lease', () => {
      test('that is over leaves the outcome unknown', async () => {
        const { fence } = await acquire(claimOf('a'));
        await under.advance(leaseMs);
        expect(await begin(store, claimOf('b'))).toEqual({ state: 'unknown', fence });
      });

      test('is extended by renewal', async () => {
        const held = await acquire(claimOf('a'));
        await under.advance(leaseMs / 2);
        expect(await store.renew(held)).toBe(true);
        await under.advance(leaseMs / 2 + 1000);
        expect(await begin(store, claimOf('b'))).toEqual({ state: 'processing' });
      });

      test('outlasts the TTL as long as it is renewed', async () => {
        const held = await acquire(claimOf('a'));
        await under.advance(ttlMs - 1000);
        expect(await store.renew(held)).toBe(true);
        await under.advance(leaseMs / 2);
        expect(await begin(store, claimOf('b'))).toEqual({ state: 'processing' });
      });

      test('that is over may be renewed as long as nobody took it', async () => {
        const held = await acquire(claimOf('a'));
        await under.advance(leaseMs);
        expect(await store.renew(held)).toBe(true);
        expect(await begin(store, claimOf('b'), true)).toEqual({ state: 'processing' });
      });

      test('that is over is taken over with a greater fence', async () => {
        const first = await acquire(claimOf('a'));
        await under.advance(leaseMs);
        const begun = await begin(store, claimOf('b'), true);
        expect(begun).toMatchObject({ state: 'acquired', recovered: true });
        expect(begun.state === 'acquired' && begun.fence > first.fence).toBe(true);
        expect(await begin(store, claimOf('b'), true)).toEqual(begun);
      });

      test.each([
        ['complete', 'completed'],
        ['release', 'acquired'],
        ['abandon', 'unknown'],
      ] as const)('that is over does not keep its owner from saying %s', async (said, state) => {
        const held = await acquire(claimOf('a'));
        await under.advance(leaseMs);
        expect(await change(store, said, held)).toBe(true);
        expect(await begin(store, claimOf('b'))).toMatchObject({ state });
      });

      // A store that first reads and then writes lets both of them win, and the request runs twice.
      test.each(['renew', 'complete', 'release'] as const)(
        'that is over goes to one of two at once: to who would take it, or to its owner, who says %s',
        async (said) => {
          const claims = (owner: string): readonly Claim[] =>
            Array.from({ length: 20 }, (_, index) => ({ ...claimOf(owner), id: `id-${index}` }));
          const held = await Promise.all(claims('a').map((claim) => acquire(claim)));
          await under.advance(leaseMs);
          const isOwners = Promise.all(held.map((claim) => change(store, said, claim)));
          const begun = await Promise.all(claims('b').map((claim) => begin(store, claim, true)));
          const isTaken = begun.map((found) => found.state === 'acquired' && found.recovered);
          expect(isTaken).toEqual((await isOwners).map((isHeld) => !isHeld));
        },
      );
    });

    describe('an owner that was overtaken', () => {
      test.each(['renew', 'release', 'abandon'] as const)('cannot %s', async (operation) => {
        const stale = await acquire(claimOf('a'));
        await under.advance(leaseMs);
        await acquire(claimOf('b'), true);
        expect(await store[operation](stale)).toBe(false);
        expect(await begin(store, claimOf('c'), true)).toEqual({ state: 'processing' });
      });

      test('cannot overwrite the newer outcome, nor forestall it', async () => {
        const stale = await acquire(claimOf('a'));
        await under.advance(leaseMs);
        const newer = await acquire(claimOf('b'), true);
        expect(await store.complete(stale, Buffer.from('stale'))).toBe(false);
        expect(await store.complete(newer, payload)).toBe(true);
        expect(await store.complete(stale, Buffer.from('stale'))).toBe(false);
        expect(outcomeIn(await begin(store, claimOf('c')))).toEqual(payload);
      });

      test('stays overtaken when the newer owner released', async () => {
        const stale = await acquire(claimOf('a'));
        await under.advance(leaseMs);
        await store.release(await acquire(claimOf('b'), true));
        expect(await store.renew(stale)).toBe(false);
        expect(await store.complete(stale, payload)).toBe(false);
      });
    });

    describe('an outcome', () => {
      test('is given back byte by byte', async () => {
        const held = await acquire(claimOf('a'));
        expect(await store.complete(held, binary)).toBe(true);
        expect(outcomeIn(await begin(store, claimOf('b')))).toEqual(binary);
      });

      test('of a mebibyte is given back whole, or left out', async () => {
        const large = Buffer.alloc(2 ** 20, binary);
        await store.complete(await acquire(claimOf('a')), large);
        const outcome = outcomeIn(await begin(store, claimOf('b')));
        expect(outcome.byteLength === 0 || outcome.equals(large)).toBe(true);
      });

      test('is kept for its TTL from completion, and no longer', async () => {
        const held = await acquire(claimOf('a'));
        await under.advance(leaseMs / 2);
        await store.complete(held, payload);
        await under.advance(ttlMs - 1000);
        const begun = await begin(store, claimOf('b'));
        expect(begun.state).toBe('completed');
        expect(begun.state === 'completed' && begun.expiresInMs).toBeGreaterThan(0);
        expect(begun.state === 'completed' && begun.expiresInMs).toBeLessThanOrEqual(1000);
        await under.advance(1000);
        expect(await begin(store, claimOf('b'))).toMatchObject({ state: 'acquired' });
      });

      test('may be told twice', async () => {
        const held = await acquire(claimOf('a'));
        await store.complete(held, payload);
        expect(await store.complete(held, payload)).toBe(true);
        expect(await store.renew(held)).toBe(false);
        expect(await begin(store, claimOf('b'))).toMatchObject({ state: 'completed' });
      });
    });

    describe('release', () => {
      test('frees the record, for another fingerprint too', async () => {
        const held = await acquire(claimOf('a'));
        expect(await store.release(held)).toBe(true);
        expect(await store.release(held)).toBe(true);
        const begun = await begin(store, { ...claimOf('b'), fingerprint: 'f'.repeat(43) });
        expect(begun).toMatchObject({ state: 'acquired', recovered: false });
        expect(begun.state === 'acquired' && begun.fence > held.fence).toBe(true);
      });

      test('does not revive by a renewal that comes late', async () => {
        const held = await acquire(claimOf('a'));
        await store.release(held);
        await under.advance(leaseMs - 1000);
        expect(await store.renew(held)).toBe(false);
        expect(await begin(store, claimOf('b'))).toMatchObject({ state: 'acquired' });
      });

      test('by an owner that never learned its fence does not make fences fall', async () => {
        const ahead = { ...claimOf('a'), fence: Date.now() + 1_000_000_000 };
        await store.renew(ahead); // puts back a record whose fence the store's clock has not reached
        await store.release({ ...ahead, fence: 0 });
        const begun = await begin(store, claimOf('b'));
        expect(begun.state === 'acquired' && begun.fence > ahead.fence).toBe(true);
      });

      test('of a record that was taken over leaves it unknown', async () => {
        await acquire(claimOf('a'));
        await under.advance(leaseMs);
        const held = await acquire(claimOf('b'), true);
        expect(await store.renew(held)).toBe(true);
        expect(await store.release(held)).toBe(true);
        expect(await store.release(held)).toBe(true);
        expect(await begin(store, claimOf('c'))).toMatchObject({ state: 'unknown' });
      });
    });

    test('abandon makes the outcome unknown at once', async () => {
      const held = await acquire(claimOf('a'));
      expect(await store.abandon(held)).toBe(true);
      expect(await store.abandon(held)).toBe(true);
      expect(await begin(store, claimOf('b'))).toEqual({ state: 'unknown', fence: held.fence });
      expect(await begin(store, claimOf('b'), true)).toMatchObject({ recovered: true });
    });

    describe('an unknown outcome is known to be so for its TTL, and no longer', () => {
      const expectKept = async (): Promise<void> => {
        await under.advance(ttlMs - 1000);
        expect(await begin(store, claimOf('z'))).toMatchObject({ state: 'unknown' });
        await under.advance(1000);
        expect(await begin(store, claimOf('z'))).toMatchObject({ recovered: false });
      };

      test('when its owner died', async () => {
        await acquire(claimOf('a'));
        await expectKept();
      });

      test('when its owner gave up', async () => {
        const held = await acquire(claimOf('a'));
        await under.advance(leaseMs / 2);
        await store.abandon(held);
        await expectKept();
      });

      test('when who took it over did not execute it', async () => {
        await acquire(claimOf('a'));
        await under.advance(leaseMs);
        await store.release(await acquire(claimOf('b'), true));
        await expectKept();
      });
    });

    describe('a record that the store lost', () => {
      const lost = { ...claimOf('a'), fence: 1 };

      test('is put back by renewal', async () => {
        expect(await store.renew(lost)).toBe(true);
        expect(await begin(store, claimOf('b'))).toEqual({ state: 'processing' });
      });

      test('is put back by its outcome', async () => {
        expect(await store.complete(lost, payload)).toBe(true);
        expect(outcomeIn(await begin(store, claimOf('b')))).toEqual(payload);
      });

      test('is put back by giving up', async () => {
        expect(await store.abandon(lost)).toBe(true);
        expect(await begin(store, claimOf('b'))).toEqual({ state: 'unknown', fence: 1 });
      });

      test('is not put back by release', async () => {
        expect(await store.release(lost)).toBe(true);
        expect(await begin(store, claimOf('b'))).toMatchObject({ state: 'acquired' });
      });
    });

    test('does what the model does, whatever the order', async () => {
      let runs = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 30 }), async (steps) => {
          runs += 1;
          await replay(under, steps, `run-${runs}`);
        }),
        { numRuns: 100 },
      );
    });
  });
}

type Step =
  | {
      readonly do: 'begin';
      readonly owner: number;
      readonly fingerprint: string;
      readonly takeover: boolean;
    }
  | {
      readonly do: 'renew' | 'complete' | 'release' | 'abandon';
      /** Which of the claims granted so far: 0 is the newest. */
      readonly claim: number;
    }
  | { readonly do: 'advance'; readonly ms: number };

// Multiples of a second, so that the milliseconds that a real server takes decide nothing.
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('begin' as const),
      owner: fc.nat(3),
      fingerprint: fc.constantFrom('e', 'e', 'e', 'f').map((letter) => letter.repeat(43)),
      takeover: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'renew' as const,
        'complete' as const,
        'release' as const,
        'abandon' as const,
      ),
      claim: fc.nat(2),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('advance' as const),
      ms: fc.constantFrom(25_000, leaseMs + 1000, ttlMs + 1000),
    }),
  },
);

async function replay(under: StoreUnderTest, steps: readonly Step[], id: string): Promise<void> {
  const model = new RecordModel();
  const granted: HeldClaim[] = [];
  for (const [index, taken] of steps.entries()) {
    if (taken.do === 'advance') {
      await under.advance(taken.ms);
      model.advance(taken.ms);
    } else if (taken.do === 'begin') {
      // An owner's name belongs to one attempt, which may ask again while it holds the record.
      const [holder] = granted;
      const isAgain =
        taken.owner === 0 && model.state === 'processing' && model.owner === holder?.owner;
      const fresh = { ...claimOf(`owner-${index}`), id, fingerprint: taken.fingerprint };
      const claim = isAgain && holder ? holder : fresh;
      const knownFence = model.state === 'absent' ? 0 : model.fence;
      const expected = model.begin(claim, taken.takeover);
      const begun = await begin(under.store, claim, taken.takeover);
      expect(begun, `step ${index}`).toMatchObject(expected);
      if (begun.state === 'completed')
        expect(Buffer.from(begun.payload).toString()).toBe(model.payload);
      if (begun.state !== 'acquired' || isAgain) continue;
      expect(begun.fence, `step ${index}`).toBeGreaterThan(knownFence);
      model.fence = begun.fence;
      granted.unshift({ ...claim, fence: begun.fence });
    } else {
      const claim = granted[taken.claim];
      if (!claim) continue;
      const text = `outcome of step ${index}`;
      const expected = model.change(taken.do, claim, text);
      const actual = await change(under.store, taken.do, claim, Buffer.from(text));
      expect(actual, `step ${index}`).toBe(expected);
    }
  }
}

/** As a Buffer, whatever kind of bytes the store gives. */
function outcomeIn(begun: Begun): Buffer {
  if (begun.state !== 'completed') throw new Error(`expected an outcome, got ${begun.state}`);
  return Buffer.from(begun.payload);
}

async function begin(store: IdempotencyStore, claim: Claim, takeover = false): Promise<Begun> {
  return await store.begin(claim, { takeover });
}

async function change(
  store: IdempotencyStore,
  operation: 'renew' | 'complete' | 'release' | 'abandon',
  claim: HeldClaim,
  outcome: Uint8Array = payload,
): Promise<boolean> {
  return operation === 'complete'
    ? await store.complete(claim, outcome)
    : await store[operation](claim);
}

function claimOf(owner: string): Claim {
  return { id: 'i'.repeat(43), owner, fingerprint: 'e'.repeat(43), leaseMs, ttlMs };
}

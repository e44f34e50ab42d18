import type { JournalEntry, JournalStore } from '@countersign/client';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

/** A store under test. */
export interface StoreUnderTest {
  readonly store: JournalStore;
  /**
   * The same journal as another process finds it after the first one was killed, and after the deadlines and leases of
   * all entries that were begun with `deadlineAtMs` in the past are over.
   */
  afterCrash(): JournalStore | Promise<JournalStore>;
  close?(): void | Promise<void>;
}

let made = 0;

/** An entry of a call whose deadline has passed. */
function entry(change: Partial<JournalEntry> = {}): JournalEntry {
  made += 1;
  const createdAtMs = Date.now() - 60_000;
  return {
    version: 1,
    key: `key-${process.pid}-${made}`,
    origin: 'https://api.example.com',
    method: 'POST',
    path: '/payments?x=ä',
    headers: { 'content-type': 'application/json' },
    body: Buffer.from('{"amount":5}').toString('base64'),
    fingerprint: '0'.repeat(64),
    createdAtMs,
    deadlineAtMs: createdAtMs,
    expiresAtMs: createdAtMs + 86_400_000,
    ...change,
  };
}

/**
 * What every `JournalStore` must do. Call it in a test file of your own store.
 * @param create - makes an empty journal; called before every test.
 */
export function journalStoreContract(
  name: string,
  create: () => StoreUnderTest | Promise<StoreUnderTest>,
): void {
  describe(`${name}: journal store contract`, () => {
    const origin = 'https://api.example.com';
    let under: StoreUnderTest;
    let store: JournalStore;
    beforeEach(async () => {
      under = await create();
      store = under.store;
    });
    afterEach(async () => {
      await store.close();
      await under.close?.();
    });

    const claimAll = async (from: JournalStore): Promise<JournalEntry[]> => {
      const claimed: JournalEntry[] = [];
      for (;;) {
        const next = await from.claim(origin, 60_000);
        if (!next) return claimed;
        claimed.push(next);
      }
    };
    const byKey = (a: JournalEntry, b: JournalEntry): number => a.key.localeCompare(b.key);

    test('an empty journal has nothing to claim', async () => {
      expect(await store.claim(origin, 1000)).toBeUndefined();
    });

    test('what was begun survives a crash, to the last byte', async () => {
      const entries = [entry(), entry({ path: '/"\\\n\u2028' }), entry({ headers: {} })];
      for (const each of entries) await store.begin(each);
      const claimed = await claimAll(await under.afterCrash());
      expect(claimed.sort(byKey)).toEqual(entries.sort(byKey));
    });

    test('what was settled is gone', async () => {
      const [first, second] = [entry(), entry()];
      await store.begin(first);
      await store.begin(second);
      await store.settle(origin, first.key);
      expect(await claimAll(store)).toEqual([second]);
    });

    test('settling what is unknown does nothing', async () => {
      await store.settle(origin, 'unknown');
      await store.settle('https://unknown.example', 'unknown');
    });

    test('an entry is claimed once, until the lease is over', async () => {
      const one = entry();
      await store.begin(one);
      expect(await store.claim(origin, 60_000)).toEqual(one);
      expect(await store.claim(origin, 60_000)).toBeUndefined();
    });

    test('an entry whose caller may be at work is not claimed', async () => {
      await store.begin(entry({ createdAtMs: Date.now(), deadlineAtMs: Date.now() + 60_000 }));
      expect(await store.claim(origin, 1000)).toBeUndefined();
    });

    test('only entries of the origin are claimed', async () => {
      await store.begin(entry({ origin: 'https://other.example.com' }));
      expect(await store.claim(origin, 1000)).toBeUndefined();
    });

    test('the same key at another origin is another entry', async () => {
      const [one, settled] = [entry(), entry()];
      const elsewhere = 'https://other.example.com';
      for (const each of [one, settled]) {
        await store.begin(each);
        await store.begin({ ...each, origin: elsewhere });
      }
      await store.settle(elsewhere, one.key);
      await store.settle(origin, settled.key);
      const crashed = await under.afterCrash();
      expect(await claimAll(crashed)).toEqual([one]);
      expect(await crashed.claim(elsewhere, 60_000)).toEqual({ ...settled, origin: elsewhere });
      expect(await crashed.claim(elsewhere, 60_000)).toBeUndefined();
    });

    test('a key that is begun again is one entry, the later one', async () => {
      const first = entry();
      const again = { ...first, path: '/again' };
      await store.begin(first);
      await store.begin(again);
      expect(await claimAll(await under.afterCrash())).toEqual([again]);
    });

    test('many at the same time are all kept', async () => {
      const entries = Array.from({ length: 200 }, () => entry());
      await Promise.all(entries.map((each) => store.begin(each)));
      await Promise.all(entries.slice(0, 100).map(({ key }) => store.settle(origin, key)));
      const left = await claimAll(store);
      expect(left.sort(byKey)).toEqual(entries.slice(100).sort(byKey));
    });
  });
}

import { describe, expect, it } from 'vitest';
import type { ApiKeyStore, AuditEntry, KeyRecord, PageRequest, StoredKey } from '../src/index.ts';

const START_MS = Date.UTC(2026, 0, 1, 12);
const DAY_MS = 86_400_000;

let made = 0;

/** 16 characters, new with each call; the last eight are the lineage. */
function freshId(lineage?: string): string {
  made += 1;
  const own = `${process.pid.toString(36)}${made.toString(36)}`.padStart(8, '0').slice(-8);
  return own + (lineage?.slice(-8) ?? own.split('').reverse().join(''));
}

function freshOwner(): string {
  return `owner-${freshId()}`;
}

function stored(change: Partial<KeyRecord> = {}): StoredKey {
  const id = change.id ?? freshId();
  return {
    record: {
      id,
      display: `sk-live-${id.slice(0, 8)}`,
      environment: 'live',
      owner: 'acme',
      scopes: ['orders:read'],
      createdAtMs: START_MS,
      expiresAtMs: START_MS + 90 * DAY_MS,
      pepperId: 'p1',
      ...change,
    },
    digest: `${id}-digest-`.padEnd(43, '0'),
  };
}

function withoutExpiry(): StoredKey {
  const { record, digest } = stored();
  const { expiresAtMs: _, ...rest } = record;
  return { record: rest, digest };
}

/**
 * What every store must do. Call it inside a test file of yours:
 *
 *     apiKeyStoreContract('my store', () => myStore(connection));
 *
 * The store is used for the whole suite and may hold other keys: the suite uses ids and owners of its own.
 */
export function apiKeyStoreContract(
  name: string,
  open: () => ApiKeyStore | Promise<ApiKeyStore>,
): void {
  describe(`${name} (api key store)`, () => {
    let opened: Promise<ApiKeyStore> | undefined;
    const store = (): Promise<ApiKeyStore> => {
      opened ??= Promise.resolve(open());
      return opened;
    };
    describeRecords(store);
    describeRotation(store);
    describeChanges(store);
    describeLists(store);
    describeTrail(store);
    describeSubscription(store);
  });
}

type Open = () => Promise<ApiKeyStore>;

function describeRecords(open: Open): void {
  describe('create and find', () => {
    it('gives back what was stored, every field of it', async () => {
      const store = await open();
      const full = stored({
        scopes: ['orders:*', 'users:read'],
        resources: ['projects/42/**', 'a b/ü'],
        rateLimit: { limit: 10, windowSeconds: 60 },
        maxUses: 5,
        ipAllowlist: ['10.0.0.0/8', '2001:db8::/32'],
        metadata: { team: 'Zürich "1"', empty: '' },
        predecessorId: freshId(),
        owner: 'ümläut {curly} "quoted" \n',
      });
      const bare = withoutExpiry();
      const { pepperId: _, ...plain } = stored({
        scopes: [],
        legacy: true,
        rateLimit: { policy: 'free' },
      }).record;
      for (const key of [full, bare, { record: plain, digest: full.digest }]) {
        expect(await store.create(key)).toBe(true);
        expect(await store.find(key.record.id)).toEqual(key);
      }
    });

    it('knows nothing of other ids', async () => {
      expect(await (await open()).find(freshId())).toBeUndefined();
    });

    it('refuses an id that exists and leaves the key alone', async () => {
      const store = await open();
      const key = stored();
      await store.create(key);
      expect(await store.create(stored({ id: key.record.id, owner: 'thief' }))).toBe(false);
      expect(await store.find(key.record.id)).toEqual(key);
    });

    it('lets one of many creations of the same id win', async () => {
      const store = await open();
      const id = freshId();
      const attempts = Array.from({ length: 8 }, (_, n) =>
        store.create(stored({ id, owner: `o${n}` })),
      );
      expect((await Promise.all(attempts)).filter(Boolean)).toHaveLength(1);
    });
  });
}

function describeRotation(open: Open): void {
  const rotation = (id: string, change: Partial<KeyRecord> = {}) => ({
    successor: stored({ id: freshId(id), predecessorId: id, ...change }),
    atMs: START_MS + DAY_MS,
    overlapEndsAtMs: START_MS + 2 * DAY_MS,
  });

  describe('rotate', () => {
    it('adds the successor and ends the old key when the overlap does', async () => {
      const store = await open();
      const { record } = stored();
      await store.create({ ...stored(), record });
      const turn = rotation(record.id);
      const outcome = await store.rotate(record.id, turn);
      const expected = {
        ...record,
        rotatedAtMs: turn.atMs,
        successorId: turn.successor.record.id,
        expiresAtMs: turn.overlapEndsAtMs,
      };
      expect(outcome).toEqual({ status: 'rotated', record: expected });
      expect((await store.find(record.id))?.record).toEqual(expected);
      expect(await store.find(turn.successor.record.id)).toEqual(turn.successor);
    });

    it('never makes the old key live longer', async () => {
      const store = await open();
      const key = stored({ expiresAtMs: START_MS + DAY_MS + 1000 });
      await store.create(key);
      expect(await store.rotate(key.record.id, rotation(key.record.id))).toMatchObject({
        status: 'rotated',
        record: { expiresAtMs: START_MS + DAY_MS + 1000 },
      });
    });

    it('ends a key that had no end', async () => {
      const store = await open();
      const key = withoutExpiry();
      await store.create(key);
      expect(await store.rotate(key.record.id, rotation(key.record.id))).toMatchObject({
        status: 'rotated',
        record: { expiresAtMs: START_MS + 2 * DAY_MS },
      });
    });

    it('refuses what is unknown, revoked, expired, rotated, or would overwrite, and then changes nothing', async () => {
      const store = await open();
      const revoked = stored();
      await store.create(revoked);
      await store.revoke(revoked.record.id, { atMs: START_MS, reason: 'lost' });
      const expired = stored({ expiresAtMs: START_MS + DAY_MS });
      await store.create(expired);
      const rotated = stored();
      await store.create(rotated);
      await store.rotate(rotated.record.id, rotation(rotated.record.id));
      const taken = stored();
      await store.create(taken);
      const refusals = [
        ['not_found', freshId(), {}],
        ['revoked', revoked.record.id, {}],
        ['expired', expired.record.id, {}],
        ['already_rotated', rotated.record.id, {}],
        ['id_taken', taken.record.id, { id: taken.record.id }],
      ] as const;
      for (const [status, id, change] of refusals) {
        const before = await store.find(id);
        const turn = rotation(id, change);
        expect(await store.rotate(id, turn)).toEqual({ status });
        expect(await store.find(id)).toEqual(before);
        if (status !== 'id_taken')
          expect(await store.find(turn.successor.record.id)).toBeUndefined();
      }
    });

    it('makes one successor when many rotate at once', async () => {
      const store = await open();
      const { record, digest } = stored();
      await store.create({ record, digest });
      const turns = Array.from({ length: 8 }, () => rotation(record.id));
      const outcomes = await Promise.all(turns.map((turn) => store.rotate(record.id, turn)));
      expect(outcomes.filter(({ status }) => status === 'rotated')).toHaveLength(1);
      const successors = await Promise.all(
        turns.map(async ({ successor }) => store.find(successor.record.id)),
      );
      expect(successors.filter(Boolean)).toHaveLength(1);
    });

    it('and revoke at once end in one of the two orders', async () => {
      const store = await open();
      for (let round = 0; round < 10; round += 1) {
        const { record, digest } = stored();
        await store.create({ record, digest });
        const turn = rotation(record.id);
        const [outcome] = await Promise.all([
          store.rotate(record.id, turn),
          store.revoke(record.id, { atMs: turn.atMs, reason: 'lost' }),
        ]);
        expect(['rotated', 'revoked']).toContain(outcome.status);
        const old = (await store.find(record.id))?.record;
        expect(old?.revokedAtMs).toBe(turn.atMs);
        expect(old?.successorId !== undefined).toBe(outcome.status === 'rotated');
        expect((await store.find(turn.successor.record.id)) !== undefined).toBe(
          outcome.status === 'rotated',
        );
      }
    });
  });
}

function describeChanges(open: Open): void {
  describe('revoke', () => {
    it('keeps the first reason', async () => {
      const store = await open();
      const { record, digest } = stored();
      await store.create({ record, digest });
      const expected = { ...record, revokedAtMs: START_MS + 1, revokedReason: 'lost' };
      expect(await store.revoke(record.id, { atMs: START_MS + 1, reason: 'lost' })).toEqual(
        expected,
      );
      expect(await store.revoke(record.id, { atMs: START_MS + 2, reason: 'other' })).toEqual(
        expected,
      );
      expect(await store.find(record.id)).toEqual({ record: expected, digest });
    });

    it('invents no record', async () => {
      const store = await open();
      const id = freshId();
      expect(await store.revoke(id, { atMs: START_MS, reason: 'lost' })).toBeUndefined();
      expect(await store.find(id)).toBeUndefined();
    });
  });

  describe('rehash', () => {
    it('replaces the digest it was told to, once', async () => {
      const store = await open();
      const key = stored();
      const { id } = key.record;
      await store.create(key);
      const digest = 'n'.repeat(43);
      const attempts = Array.from({ length: 4 }, () =>
        store.rehash(id, key.digest, { digest, pepperId: 'p2' }),
      );
      expect((await Promise.all(attempts)).filter(Boolean)).toHaveLength(1);
      expect(await store.find(id)).toEqual({ record: { ...key.record, pepperId: 'p2' }, digest });
      expect(await store.rehash(id, key.digest, { digest: 'x'.repeat(43), pepperId: 'p3' })).toBe(
        false,
      );
      expect(await store.rehash(id, digest, { digest: key.digest })).toBe(true);
      expect((await store.find(id))?.record).not.toHaveProperty('pepperId');
      expect(await store.rehash(freshId(), digest, { digest })).toBe(false);
    });

    it('does not bring a revoked key back', async () => {
      const store = await open();
      const key = stored();
      await store.create(key);
      await store.revoke(key.record.id, { atMs: START_MS, reason: 'lost' });
      await store.rehash(key.record.id, key.digest, { digest: 'n'.repeat(43), pepperId: 'p2' });
      expect((await store.find(key.record.id))?.record.revokedReason).toBe('lost');
    });
  });

  describe('touch', () => {
    it('notes a use once per interval', async () => {
      const store = await open();
      const { record, digest } = stored();
      await store.create({ record, digest });
      const first = Array.from({ length: 8 }, () => store.touch(record.id, START_MS, 60_000));
      expect((await Promise.all(first)).filter(Boolean)).toHaveLength(1);
      expect(await store.touch(record.id, START_MS + 59_999, 60_000)).toBe(false);
      expect((await store.find(record.id))?.record.lastUsedAtMs).toBe(START_MS);
      expect(await store.touch(record.id, START_MS + 60_000, 60_000)).toBe(true);
      expect((await store.find(record.id))?.record).toEqual({
        ...record,
        lastUsedAtMs: START_MS + 60_000,
      });
    });

    it('invents no record', async () => {
      const store = await open();
      const id = freshId();
      expect(await store.touch(id, START_MS, 60_000)).toBe(false);
      expect(await store.find(id)).toBeUndefined();
    });
  });
}

type Fetch = (page: PageRequest) => Promise<{ records: readonly KeyRecord[]; cursor?: string }>;

async function everyPage(fetch: Fetch, limit: number): Promise<string[]> {
  const ids: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await fetch({ limit, ...(cursor !== undefined && { cursor }) });
    expect(page.records.length).toBeLessThanOrEqual(limit);
    ids.push(...page.records.map(({ id }) => id));
    cursor = page.cursor;
  } while (cursor !== undefined);
  return ids;
}

function describeLists(open: Open): void {
  describe('list', () => {
    it("gives an owner's keys in the order of creation, by pages of any size, each once", async () => {
      const store = await open();
      const owner = freshOwner();
      const keys = Array.from({ length: 11 }, (_, n) =>
        stored({ owner, createdAtMs: START_MS + Math.floor(n / 3) }),
      );
      await Promise.all(
        [...keys.toReversed(), stored({ owner: freshOwner() })].map((key) => store.create(key)),
      );
      const times = new Map(keys.map(({ record }) => [record.id, record.createdAtMs]));
      for (const limit of [1, 2, 5, 10, 11, 12]) {
        const ids = await everyPage((page) => store.list(owner, page), limit);
        expect(ids.toSorted()).toEqual([...times.keys()].toSorted());
        const order = ids.map((id) => times.get(id) ?? 0);
        expect(order).toEqual(order.toSorted((a, b) => a - b));
      }
    });

    it('is empty for an owner without keys, and refuses pages of no size', async () => {
      const store = await open();
      expect(await store.list(freshOwner(), {})).toEqual({ records: [] });
      await expect(store.list('acme', { limit: 0 })).rejects.toMatchObject({
        code: 'ERR_API_KEYS_INVALID',
      });
    });

    it('shows successors and revocations', async () => {
      const store = await open();
      const owner = freshOwner();
      const key = stored({ owner });
      const { id } = key.record;
      await store.create(key);
      const successor = stored({ owner, id: freshId(id), createdAtMs: START_MS + 1 });
      await store.rotate(id, { successor, atMs: START_MS + 1, overlapEndsAtMs: START_MS + 2 });
      await store.revoke(id, { atMs: START_MS + 1, reason: 'lost' });
      const { records } = await store.list(owner, {});
      expect(records).toMatchObject([{ id, revokedReason: 'lost' }, { id: successor.record.id }]);
    });
  });

  describe('expiring', () => {
    it('gives the keys of a span in the order of their expiry, by pages', async () => {
      const store = await open();
      // A span of its own, far from where the other tests' keys expire.
      const fromMs = START_MS + (1000 + (made % 1000)) * DAY_MS;
      const expiries = [0, 1, DAY_MS, DAY_MS, 3 * DAY_MS - 1, 3 * DAY_MS];
      const keys = expiries.map((at) => stored({ expiresAtMs: fromMs + at }));
      await Promise.all(keys.map((key) => store.create(key)));
      const wanted = keys.slice(0, 5).map(({ record }) => record.id);
      for (const limit of [1, 2, 5, 100]) {
        const ids = await everyPage(
          (page) => store.expiring(fromMs, fromMs + 3 * DAY_MS, page),
          limit,
        );
        expect(ids.toSorted()).toEqual(wanted.toSorted());
        expect(ids.slice(0, 2)).toEqual(wanted.slice(0, 2));
        expect(ids.at(-1)).toBe(wanted[4]);
      }
    });

    it('lists a rotated key under its new expiry', async () => {
      const store = await open();
      const fromMs = START_MS + (3000 + (made % 1000)) * DAY_MS;
      const key = stored({ expiresAtMs: fromMs + 5 * DAY_MS });
      const { id } = key.record;
      await store.create(key);
      const successor = stored({ id: freshId(id), expiresAtMs: fromMs + 50 * DAY_MS });
      await store.rotate(id, { successor, atMs: START_MS, overlapEndsAtMs: fromMs + DAY_MS });
      const early = await store.expiring(fromMs, fromMs + 2 * DAY_MS, {});
      expect(early.records).toMatchObject([{ id }]);
      expect((await store.expiring(fromMs + 2 * DAY_MS, fromMs + 9 * DAY_MS, {})).records).toEqual(
        [],
      );
    });
  });
}

function describeTrail(open: Open): void {
  describe('trail', () => {
    it('is written with each change and read newest first', async () => {
      const store = await open();
      const key = stored();
      const { id } = key.record;
      const entry = (event: AuditEntry['event'], atMs: number): AuditEntry => ({
        event,
        id,
        atMs,
        actor: 'a "b"',
      });
      await store.create(key, entry('created', START_MS));
      await store.touch(id, START_MS + 1, 60_000, entry('used', START_MS + 1));
      await store.append(entry('denied', START_MS + 2));
      const successor = stored({ id: freshId(id) });
      const turn = { successor, atMs: START_MS + 3, overlapEndsAtMs: START_MS + DAY_MS };
      await store.rotate(id, { ...turn, audit: entry('rotated', START_MS + 3) });
      await store.revoke(id, {
        atMs: START_MS + 4,
        reason: 'lost',
        audit: entry('revoked', START_MS + 4),
      });
      await store.revoke(id, {
        atMs: START_MS + 5,
        reason: 'lost',
        audit: entry('revoked', START_MS + 5),
      });
      const trail = await store.trail(id, 10);
      expect(trail.map(({ event }) => event)).toEqual([
        'revoked',
        'rotated',
        'denied',
        'used',
        'created',
      ]);
      expect(trail[4]).toEqual(entry('created', START_MS));
      expect(await store.trail(id, 2)).toEqual(trail.slice(0, 2));
    });

    it('does not grow for keys that do not exist', async () => {
      const store = await open();
      const id = freshId();
      await store.append({ event: 'denied', id, atMs: START_MS });
      expect(await store.trail(id, 10)).toEqual([]);
    });
  });
}

function describeSubscription(open: Open): void {
  describe('subscribe', () => {
    it('tells of revocations and rotations, where the store can', async ({ skip }) => {
      const store = await open();
      if (!store.subscribe) return skip('this store does not report changes');
      const heard: string[] = [];
      let ready: () => void = () => {};
      const told = (): Promise<void> =>
        new Promise((resolve) => {
          ready = resolve;
        });
      const first = told();
      const stop = store.subscribe((change) => {
        heard.push(change === 'all' ? 'all' : change.id);
        ready();
      });
      const keys = [stored(), stored()];
      await Promise.all(keys.map((key) => store.create(key)));
      const [revoked, rotated] = keys.map(({ record }) => record.id) as [string, string];
      // A remote store says `all` once it listens; an embedded one listens at once.
      if (heard.length === 0)
        await Promise.race([first, new Promise((resolve) => setTimeout(resolve, 1000))]);
      for (const [id, change] of [
        [revoked, () => store.revoke(revoked, { atMs: START_MS, reason: 'lost' })],
        [
          rotated,
          () =>
            store.rotate(rotated, {
              successor: stored({ id: freshId(rotated) }),
              atMs: START_MS,
              overlapEndsAtMs: START_MS + 1,
            }),
        ],
      ] as const) {
        await change();
        while (!heard.includes(id)) await told();
      }
      stop();
    });
  });
}

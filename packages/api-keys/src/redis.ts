import { assertKnown, type OptionNames } from '@countersign/options';
import { assertRedisClient, type RedisClient, withDeadline } from '@countersign/redis';
import type { Redis } from 'ioredis';
import type { AuditEntry } from './audit.ts';
import { ApiKeysError } from './errors.ts';
import { LINEAGE_LENGTH, lineage } from './key-format.ts';
import { assertCount, assertFunction } from './options.ts';
import type { KeyRecord } from './record.ts';
import { redisChanges } from './redis-changes.ts';
import { fromFields, toFields } from './redis-record.ts';
import { redisScripts } from './redis-scripts.ts';
import { type ApiKeyStore, type Page, pageLimit } from './store.ts';

export interface RedisApiKeyStoreOptions {
  /** Begins every key name and the channel. Default `ak:`. */
  readonly prefix?: string;
  /** How long a call may take, in ms. Default 1000. */
  readonly timeoutMs?: number;
  /** How long an expired key's record is kept, in ms. Default 30 days. */
  readonly retentionMs?: number;
  /** Trail entries kept per key; the oldest go first. Default 100. */
  readonly maxTrail?: number;
  /** The time in ms since 1970. Default `Date.now`. */
  readonly now?: () => number;
}

export interface RedisApiKeyStore extends ApiKeyStore {
  /**
   * Goes through all records and enters them in the indexes again. Returns how many there were.
   * @throws ApiKeysError `ERR_API_KEYS_CORRUPT_RECORD`, once all others are entered.
   */
  repairIndexes(): Promise<number>;
  /** Ends the connection that listens for changes. Your client stays open. */
  close(): Promise<void>;
}

const DAY_MS = 86_400_000;
const KNOWN: OptionNames<RedisApiKeyStoreOptions> = {
  prefix: true,
  timeoutMs: true,
  retentionMs: true,
  maxTrail: true,
  now: true,
};
const POSITION = /^[0-9a-z]{9}[0-9A-Za-z]*$/;
/** An index entry without a record is one being written, unless it is older than this. */
const ABANDONED_MS = 3_600_000;

/**
 * Keeps records in Redis or Redis Cluster. A key, its trail and all its successors live in one slot; the indexes by
 * owner and by day of expiry are keys of their own, written first and checked against the records when read.
 * @throws TypeError for a client that is none of ioredis, and for options that cannot work.
 */
export function redisApiKeyStore(
  redis: RedisClient,
  options: RedisApiKeyStoreOptions = {},
): RedisApiKeyStore {
  assertRedisClient('redis', redis);
  assertKnown(options, KNOWN);
  const { prefix = 'ak:', timeoutMs = 1000, now = Date.now } = options;
  const retentionMs = assertCount('retentionMs', options.retentionMs ?? 30 * DAY_MS);
  const maxTrail = assertCount('maxTrail', options.maxTrail ?? 100, 1);
  if (typeof prefix !== 'string') throw new TypeError('prefix must be text');
  assertFunction('now', now);
  const channel = `${prefix}changes`;
  const changes = redisChanges(redis, channel);
  const scripts = redisScripts(timeoutMs);
  const recordKey = (id: string): string =>
    `${prefix}k:${id.slice(0, -LINEAGE_LENGTH)}{${lineage(id)}}`;
  const trailKey = (id: string): string =>
    `${prefix}t:${id.slice(0, -LINEAGE_LENGTH)}{${lineage(id)}}`;
  const ownerKey = (owner: string): string => `${prefix}o:${owner}`;
  const expiryKey = (dayMs: number): string =>
    `${prefix}e:${new Date(dayMs).toISOString().slice(0, 10)}`;
  const text = (entry: AuditEntry | undefined): string => (entry ? JSON.stringify(entry) : '');

  // A legacy record stays: without it, a revoked legacy key would be looked up, and adopted, again.
  const ttlMs = ({ legacy, expiresAtMs, createdAtMs }: KeyRecord): number =>
    legacy || expiresAtMs === undefined ? 0 : expiresAtMs - createdAtMs + retentionMs;

  async function find(id: string) {
    return fromFields(id, await scripts.find(redis, [recordKey(id)], []));
  }

  async function index(record: KeyRecord, ttl: number = ttlMs(record)): Promise<void> {
    const owned = scripts.index(
      redis,
      [ownerKey(record.owner)],
      [ttl, position(record.createdAtMs, record.id)],
    );
    await Promise.all([owned, indexExpiry(record)]);
  }

  async function indexExpiry({
    id,
    expiresAtMs,
    createdAtMs,
  }: Pick<KeyRecord, 'id' | 'expiresAtMs' | 'createdAtMs'>): Promise<void> {
    if (expiresAtMs === undefined) return;
    const dayMs = startOfDay(expiresAtMs);
    // Nobody asks for what has expired, but the day must last until its last key has.
    const ttl = dayMs + 2 * DAY_MS - Math.min(createdAtMs, dayMs);
    await scripts.index(redis, [expiryKey(dayMs)], [ttl, position(expiresAtMs, id)]);
  }

  async function records(members: readonly string[]): Promise<(KeyRecord | undefined)[]> {
    const found = await Promise.all(members.map((member) => find(idOf(member))));
    return found.map((stored) => stored?.record);
  }

  async function forgetAbandoned(
    key: string,
    members: readonly string[],
    found: readonly unknown[],
  ): Promise<void> {
    const before = now() - ABANDONED_MS;
    const gone = members.filter((member, at) => !found[at] && positionMs(member) < before);
    if (gone.length > 0) await scripts.forget(redis, [key], gone);
  }

  return {
    async create(key, audit) {
      const { record } = key;
      await index(record);
      const keys = [recordKey(record.id), trailKey(record.id)];
      const told = record.legacy ? channel : '';
      const args = [record.id, told, ttlMs(record), text(audit), maxTrail, ...toFields(key)];
      return (await scripts.create(redis, keys, args)) === 1;
    },
    find,
    async rotate(id, { successor, atMs, overlapEndsAtMs, audit }) {
      // Whatever may fail comes first: a successor that was made and not told is a key that nobody has. Where the old key
      // expires before the overlap ends, its entry here is none, and passed over.
      const overlap = { id, createdAtMs: atMs, expiresAtMs: overlapEndsAtMs };
      await Promise.all([index(successor.record), indexExpiry(overlap)]);
      const { id: successorId } = successor.record;
      const reply = await scripts.rotate(
        redis,
        [recordKey(id), trailKey(id), recordKey(successorId)],
        [
          id,
          channel,
          atMs,
          overlapEndsAtMs,
          retentionMs,
          successorId,
          ttlMs(successor.record),
          text(audit),
          maxTrail,
          ...toFields(successor),
        ],
      );
      if (typeof reply === 'string') return { status: reply };
      const { record } = fromFields(id, reply) ?? {};
      return record ? { status: 'rotated', record } : { status: 'not_found' };
    },
    async revoke(id, { atMs, reason, audit }) {
      const args = [id, channel, atMs, reason, text(audit), maxTrail];
      return fromFields(id, await scripts.revoke(redis, [recordKey(id), trailKey(id)], args))
        ?.record;
    },
    async rehash(id, from, { digest, pepperId = '' }) {
      return (await scripts.rehash(redis, [recordKey(id)], [from, digest, pepperId])) === 1;
    },
    async touch(id, atMs, intervalMs, audit) {
      const args = [atMs, intervalMs, text(audit), maxTrail];
      return (await scripts.touch(redis, [recordKey(id), trailKey(id)], args)) === 1;
    },
    async list(owner, { limit, cursor }) {
      const size = pageLimit(limit);
      const key = ownerKey(owner);
      const begin = cursor === undefined ? '-' : excluding(asPosition(cursor));
      const members = await scripts.range(redis, [key], [begin, '+', size + 1]);
      const part = members.slice(0, size);
      const found = await records(part);
      await forgetAbandoned(key, part, found);
      return page(
        found.filter((record) => record?.owner === owner),
        members.length > size ? part.at(-1) : undefined,
      );
    },
    async expiring(fromMs, untilMs, { limit, cursor }) {
      const size = pageLimit(limit);
      const from = position(fromMs, '');
      const due: KeyRecord[] = [];
      // A cursor from before would go through all the days since.
      let last = cursor !== undefined && asPosition(cursor) > from ? cursor : from;
      for (let dayMs = startOfDay(positionMs(last)); dayMs < untilMs; dayMs += DAY_MS) {
        for (;;) {
          const wanted = size - due.length;
          if (wanted === 0) return page(due, last);
          const range = [excluding(last), excluding(position(untilMs, '')), wanted];
          const members = await scripts.range(redis, [expiryKey(dayMs)], range);
          for (const [at, record] of (await records(members)).entries()) {
            last = members[at] as string;
            // Entered under an expiry that a rotation has since brought forward: listed there, not here.
            if (record?.expiresAtMs === positionMs(last)) due.push(record);
          }
          if (members.length < wanted) break;
        }
      }
      return page(due, undefined);
    },
    async append(entry) {
      const keys = [recordKey(entry.id), trailKey(entry.id)];
      await scripts.append(redis, keys, [JSON.stringify(entry), maxTrail]);
    },
    async trail(id, limit) {
      const entries = await scripts.trail(redis, [trailKey(id)], [limit]);
      return entries.map((entry) => JSON.parse(entry) as AuditEntry);
    },
    subscribe: changes.subscribe,
    async repairIndexes() {
      let count = 0;
      let unreadable: ApiKeysError | undefined;
      await find(''); // a Cluster client knows no node until it has been asked something
      // Unlike other commands, SCAN is not given the client's own prefix by ioredis.
      const begin = `${redis.options.keyPrefix ?? ''}${prefix}k:`;
      for (const node of mastersOf(redis)) {
        for await (const keys of scan(node, `${begin.replace(/[\\*?[\]]/g, '\\$&')}*`, timeoutMs)) {
          const ids = keys.map((key) => key.slice(begin.length).replace(/[{}]/g, ''));
          const found = await Promise.all(
            ids.map((id) =>
              find(id).catch((error: unknown) => {
                if (!(error instanceof ApiKeysError)) throw error;
                unreadable ??= error;
                return undefined;
              }),
            ),
          );
          const known = found.filter((stored) => stored !== undefined);
          await Promise.all(known.map(({ record }) => index(record)));
          count += known.length;
        }
      }
      if (unreadable) throw unreadable;
      return count;
    },
    async close() {
      changes.close();
    },
  };
}

/** A member of an index: milliseconds in base36, nine characters, then the id. Ordered as text is. */
function position(ms: number, id: string): string {
  return ms.toString(36).padStart(9, '0') + id;
}

function positionMs(member: string): number {
  return Number.parseInt(member.slice(0, 9), 36);
}

function idOf(member: string): string {
  return member.slice(9);
}

/** @throws ApiKeysError `ERR_API_KEYS_INVALID` for a cursor that no page ended with. */
function asPosition(cursor: unknown): string {
  if (typeof cursor === 'string' && POSITION.test(cursor)) return cursor;
  throw new ApiKeysError('ERR_API_KEYS_INVALID', 'cursor must come from a page of this store');
}

/** A bound of a range of an index, itself outside of it. */
function excluding(place: string): string {
  return `(${place}`;
}

function startOfDay(ms: number): number {
  return Math.floor(ms / DAY_MS) * DAY_MS;
}

function page(found: readonly (KeyRecord | undefined)[], cursor: string | undefined): Page {
  const records = found.filter((record) => record !== undefined);
  return { records, ...(cursor !== undefined && { cursor }) };
}

function mastersOf(redis: RedisClient): readonly Redis[] {
  return redis.isCluster
    ? (redis as Exclude<RedisClient, Redis>).nodes('master')
    : [redis as Redis];
}

async function* scan(node: Redis, pattern: string, timeoutMs: number): AsyncGenerator<string[]> {
  let cursor = '0';
  do {
    const [next, keys] = await withDeadline(
      node.scan(cursor, 'MATCH', pattern, 'COUNT', 500),
      timeoutMs,
    );
    yield keys;
    cursor = next;
  } while (cursor !== '0');
}

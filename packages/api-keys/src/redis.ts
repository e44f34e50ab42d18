import { type RedisClient, script, withDeadline } from '@countersign/redis';
import type { Redis } from 'ioredis';
import type { AuditEntry } from './audit.ts';
import { LINEAGE_LENGTH, lineage } from './key-format.ts';
import type { KeyRecord } from './record.ts';
import { redisChanges } from './redis-changes.ts';
import { fromFields, toFields } from './redis-record.ts';
import { type ApiKeyStore, type Page, pageLimit, type RotationOutcome } from './store.ts';

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
  /** Goes through all records and enters them in the indexes again. Returns how many there were. */
  repairIndexes(): Promise<number>;
  /** Ends the connection that listens for changes. Your client stays open. */
  close(): Promise<void>;
}

const DAY_MS = 86_400_000;
/** An index entry without a record is one being written, unless it is older than this. */
const ABANDONED_MS = 3_600_000;

const PRELUDE = `
local function keep(key, ttlMs)
  if tonumber(ttlMs) > 0 then redis.call('PEXPIRE', key, ttlMs) end
end
local function note(record, trail, entry, maxTrail)
  if entry == '' then return end
  redis.call('LPUSH', trail, entry)
  redis.call('LTRIM', trail, 0, tonumber(maxTrail) - 1)
  keep(trail, redis.call('PTTL', record))
end
`;

// KEYS record trail · ARGV id channel ttlMs entry maxTrail field value …
const CREATE = `
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
keep(KEYS[1], ARGV[3])
note(KEYS[1], KEYS[2], ARGV[4], ARGV[5])
if redis.call('HEXISTS', KEYS[1], 'y') == 1 then redis.call('PUBLISH', ARGV[2], ARGV[1]) end
return 1`;

const FIND = `return redis.call('HGETALL', KEYS[1])`;

// KEYS record trail successor · ARGV id channel atMs overlapEndsAtMs retentionMs successorId successorTtlMs entry maxTrail field value …
const ROTATE = `
local known = redis.call('HMGET', KEYS[1], 'c', 'z', 'x', 'R', 'y')
if not known[1] then return 'not_found' end
if known[2] then return 'revoked' end
if known[4] then return 'already_rotated' end
if known[3] and tonumber(known[3]) <= tonumber(ARGV[3]) then return 'expired' end
if redis.call('EXISTS', KEYS[3]) == 1 then return 'id_taken' end
redis.call('HSET', KEYS[3], unpack(ARGV, 10))
keep(KEYS[3], ARGV[7])
local ends = ARGV[4]
if known[3] and tonumber(known[3]) < tonumber(ends) then ends = known[3] end
redis.call('HSET', KEYS[1], 'r', ARGV[3], 'R', ARGV[6], 'x', ends)
if not known[5] then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', tonumber(ends) - tonumber(ARGV[3]) + tonumber(ARGV[5])))
end
note(KEYS[1], KEYS[2], ARGV[8], ARGV[9])
redis.call('PUBLISH', ARGV[2], ARGV[1])
return redis.call('HGETALL', KEYS[1])`;

// KEYS record trail · ARGV id channel atMs reason entry maxTrail
const REVOKE = `
local known = redis.call('HMGET', KEYS[1], 'c', 'z')
if known[1] and not known[2] then
  redis.call('HSET', KEYS[1], 'z', ARGV[3], 'Z', ARGV[4])
  note(KEYS[1], KEYS[2], ARGV[5], ARGV[6])
end
-- Also when it was revoked before: whoever repeats it may do so because a cache did not hear of it.
redis.call('PUBLISH', ARGV[2], ARGV[1])
return redis.call('HGETALL', KEYS[1])`;

// KEYS record · ARGV from to pepperId
const REHASH = `
if redis.call('HGET', KEYS[1], 'h') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'h', ARGV[2])
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], 'k') else redis.call('HSET', KEYS[1], 'k', ARGV[3]) end
return 1`;

// KEYS record trail · ARGV atMs intervalMs entry maxTrail
const TOUCH = `
local known = redis.call('HMGET', KEYS[1], 'c', 'u')
if not known[1] then return 0 end
if known[2] and tonumber(ARGV[1]) - tonumber(known[2]) < tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'u', ARGV[1])
note(KEYS[1], KEYS[2], ARGV[3], ARGV[4])
return 1`;

// KEYS record trail · ARGV entry maxTrail
const APPEND = `
if redis.call('EXISTS', KEYS[1]) == 1 then note(KEYS[1], KEYS[2], ARGV[1], ARGV[2]) end`;

const TRAIL = `return redis.call('LRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)`;

// KEYS index · ARGV ttlMs member. An index lives as long as the longest-lived of its members.
const INDEX = `
local left = redis.call('PTTL', KEYS[1])
redis.call('ZADD', KEYS[1], 0, ARGV[2])
local ttl = tonumber(ARGV[1])
if ttl <= 0 then redis.call('PERSIST', KEYS[1])
elseif left == -2 or (left >= 0 and left < ttl) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end`;

// KEYS index · ARGV after until limit
const RANGE = `return redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])`;

const FORGET = `redis.call('ZREM', KEYS[1], unpack(ARGV))`;

/**
 * Keeps records in Redis or Redis Cluster. A key, its trail and all its successors live in one slot; the indexes by
 * owner and by day of expiry are keys of their own, written first and checked against the records when read.
 */
export function redisApiKeyStore(
  redis: RedisClient,
  options: RedisApiKeyStoreOptions = {},
): RedisApiKeyStore {
  const { prefix = 'ak:', timeoutMs = 1000, retentionMs = 30 * DAY_MS, maxTrail = 100 } = options;
  const { now = Date.now } = options;
  const channel = `${prefix}changes`;
  const changes = redisChanges(redis, channel);
  const scripts = compile(timeoutMs);
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

  async function indexExpiry({ id, expiresAtMs, createdAtMs }: KeyRecord): Promise<void> {
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
      const args = [record.id, channel, ttlMs(record), text(audit), maxTrail, ...toFields(key)];
      return (await scripts.create(redis, keys, args)) === 1;
    },
    find,
    async rotate(id, { successor, atMs, overlapEndsAtMs, audit }) {
      await index(successor.record);
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
      if (!record) return { status: 'not_found' };
      await indexExpiry(record);
      return { status: 'rotated', record };
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
      const members = await scripts.range(redis, [key], [after(cursor), '+', size + 1]);
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
      const from = cursor ?? position(fromMs, '');
      const due: KeyRecord[] = [];
      let last: string | undefined;
      for (let dayMs = startOfDay(positionMs(from)); dayMs < untilMs; dayMs += DAY_MS) {
        let start = cursor !== undefined || last !== undefined ? `(${last ?? from}` : `[${from}`;
        for (;;) {
          const wanted = size - due.length;
          if (wanted === 0) return page(due, last);
          const range = [start, `(${position(untilMs, '')}`, wanted] as const;
          const members = await scripts.range(redis, [expiryKey(dayMs)], [...range]);
          for (const [at, record] of (await records(members)).entries()) {
            last = members[at] as string;
            // Entered under an expiry that a rotation has since brought forward: listed there, not here.
            if (record?.expiresAtMs === positionMs(last)) due.push(record);
          }
          if (members.length < wanted) break;
          start = `(${last as string}`;
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
      for (const node of mastersOf(redis)) {
        for await (const keys of scan(node, `${prefix}k:*`, timeoutMs)) {
          const ids = keys.map((key) => key.slice(prefix.length + 2).replace(/[{}]/g, ''));
          const found = await Promise.all(ids.map(find));
          const known = found.filter((stored) => stored !== undefined);
          await Promise.all(known.map(({ record }) => index(record)));
          count += known.length;
        }
      }
      return count;
    },
    async close() {
      changes.close();
    },
  };
}

type Values = (string | number)[];

function compile(timeoutMs: number) {
  const make = <Reply>(lua: string, keys: number) =>
    script<Values, Reply>(lua, { keys, prelude: PRELUDE, timeoutMs });
  return {
    create: make<number>(CREATE, 2),
    find: make<string[]>(FIND, 1),
    rotate: make<string[] | Exclude<RotationOutcome['status'], 'rotated'>>(ROTATE, 3),
    revoke: make<string[]>(REVOKE, 2),
    rehash: make<number>(REHASH, 1),
    touch: make<number>(TOUCH, 2),
    append: make<null>(APPEND, 2),
    trail: make<string[]>(TRAIL, 1),
    index: make<null>(INDEX, 1),
    range: make<string[]>(RANGE, 1),
    forget: make<null>(FORGET, 1),
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

function after(cursor: string | undefined): string {
  return cursor === undefined ? '-' : `(${cursor}`;
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

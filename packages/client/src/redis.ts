import { assertKnown, type OptionNames } from '@countersign/options';
import { assertRedisClient, type RedisClient, script } from '@countersign/redis';
import type { JournalEntry, JournalStore } from './store.ts';

/** Options of {@link redisJournal}. */
export interface RedisJournalOptions {
  /** What the keys begin with, without braces. Default `countersign:client:journal`. */
  readonly prefix?: string;
  /** How long Redis may take for one operation, in milliseconds. Default 1,000. */
  readonly timeoutMs?: number;
}

// KEYS[1]: hash, key → entry. KEYS[2]: sorted set, key → moment until which somebody is at work on it (Redis time).
const BEGIN = `
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
  for i = 1, 2 do
    if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[i], ARGV[4]) end
  end
  return 1
`;

const SETTLE = `
  redis.call('ZREM', KEYS[2], ARGV[1])
  return redis.call('HDEL', KEYS[1], ARGV[1])
`;

const CLAIM = `
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  while true do
    local key = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1)[1]
    if not key then return false end
    local entry = redis.call('HGET', KEYS[1], key)
    if entry then
      redis.call('ZADD', KEYS[2], now + ARGV[1], key)
      return entry
    end
    -- Redis has dropped the entries for want of memory: nothing is left to claim.
    redis.call('ZREM', KEYS[2], key)
  end
`;

const known: OptionNames<RedisJournalOptions> = { prefix: true, timeoutMs: true };

/**
 * A journal in Redis, for any number of processes: one of them finishes what another could not. An entry survives a
 * crash of Redis as far as Redis is set up to (`appendfsync`). It holds request bodies as they are.
 * @throws TypeError for a client that is none of ioredis, and for a prefix with braces.
 * @throws StoreUnavailableError from every operation, when Redis does not answer in time.
 */
export function redisJournal(redis: RedisClient, options: RedisJournalOptions = {}): JournalStore {
  assertKnown(options, known);
  const { prefix = 'countersign:client:journal', timeoutMs = 1000 } = options;
  assertRedisClient('redis', redis);
  if (/[{}]/.test(prefix)) throw new TypeError('prefix must have no braces');
  const begin = script<[string, string, number, number], number>(BEGIN, { keys: 2, timeoutMs });
  const settle = script<[string], number>(SETTLE, { keys: 2, timeoutMs });
  const claim = script<[number], string | null>(CLAIM, { keys: 2, timeoutMs });
  const keysOf = (origin: string): string[] => [
    `${prefix}:{${origin}}:entries`,
    `${prefix}:{${origin}}:leases`,
  ];

  return {
    async begin(entry) {
      const leaseMs = Math.max(0, Math.ceil(entry.deadlineAtMs - entry.createdAtMs));
      // Kept as long again as the server keeps the key, so that what has expired can still be reported.
      const keepMs = 2 * Math.max(1, Math.ceil(entry.expiresAtMs - entry.createdAtMs));
      await begin(redis, keysOf(entry.origin), [entry.key, JSON.stringify(entry), leaseMs, keepMs]);
    },
    async settle(origin, key) {
      await settle(redis, keysOf(origin), [key]);
    },
    async claim(origin, leaseMs) {
      const text = await claim(redis, keysOf(origin), [leaseMs]);
      return text === null ? undefined : (JSON.parse(text) as JournalEntry);
    },
    // The connection belongs to whoever made it.
    close: async () => {},
  };
}

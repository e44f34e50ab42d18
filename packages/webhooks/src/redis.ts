import { randomUUID } from 'node:crypto';
import { assertKnown, type OptionNames } from '@countersign/options';
import { assertRedisClient, type RedisClient, script } from '@countersign/redis';
import { assertWhole } from './range.ts';
import type { ReplayStore } from './store.ts';

export { type RedisEndpointStoreOptions, redisEndpointStore } from './redis-endpoints.ts';

/** Options of {@link redisReplayStore}. */
export interface RedisReplayStoreOptions {
  /** Begins every key; default `webhooks:replay:`. */
  readonly prefix?: string;
  /** How long an operation may take, in milliseconds; default 1000. */
  readonly timeoutMs?: number;
}

const known: OptionNames<RedisReplayStoreOptions> = { prefix: true, timeoutMs: true };

/**
 * Remembers ids in Redis, Sentinel or Cluster: one key per id, one round trip per operation, Redis' own time.
 * Every operation rejects with `StoreUnavailableError` of `@countersign/redis` when it takes longer than `timeoutMs`.
 * The server must not evict (`maxmemory-policy noeviction`): a forgotten id is processed a second time.
 * @throws TypeError for a client that is none of ioredis, and when `timeoutMs` is out of range.
 */
export function redisReplayStore(
  redis: RedisClient,
  options: RedisReplayStoreOptions = {},
): ReplayStore {
  assertKnown(options, known);
  const { prefix = 'webhooks:replay:', timeoutMs = 1000 } = options;
  assertRedisClient('redis', redis);
  assertWhole('timeoutMs', timeoutMs, 1, 3_600_000);
  const call = { timeoutMs };
  const keysOf = (id: string): readonly [string] => [prefix + id];

  return {
    async claim(id, leaseMs) {
      const token = randomUUID();
      const [state, leftMs] = await claimScript(redis, keysOf(id), [token, leaseMs], call);
      if (state === 'claimed') return { status: 'claimed', token };
      return state === 'completed'
        ? { status: 'completed' }
        : { status: 'processing', retryAfterMs: leftMs };
    },
    renew: async (id, token, leaseMs) =>
      (await renewScript(redis, keysOf(id), [token, leaseMs], call)) === 1,
    complete: async (id, token, ttlMs) =>
      (await completeScript(redis, keysOf(id), [token, ttlMs], call)) === 1,
    release: async (id, token) => (await releaseScript(redis, keysOf(id), [token], call)) === 1,
  };
}

// A value is "1p<token>" while it is processed, and "1c" once it is completed. The key's expiry is the lease's end, or
// the end of the time to live: Redis counts both.

const claimScript = script<
  readonly [token: string, leaseMs: number],
  readonly [state: 'claimed' | 'processing' | 'completed', leftMs: number]
>(
  `
local value = redis.call('GET', KEYS[1])
if not value then
  redis.call('SET', KEYS[1], '1p' .. ARGV[1], 'PX', ARGV[2])
  return { 'claimed', 0 }
end
if value == '1c' then return { 'completed', 0 } end
return { 'processing', math.max(1, redis.call('PTTL', KEYS[1])) }
`,
  { keys: 1 },
);

const renewScript = script<readonly [token: string, leaseMs: number], 0 | 1>(
  `
if redis.call('GET', KEYS[1]) ~= '1p' .. ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
`,
  { keys: 1 },
);

const completeScript = script<readonly [token: string, ttlMs: number], 0 | 1>(
  `
local value = redis.call('GET', KEYS[1])
if value and value ~= '1p' .. ARGV[1] then return 0 end
redis.call('SET', KEYS[1], '1c', 'PX', ARGV[2])
return 1
`,
  { keys: 1 },
);

const releaseScript = script<readonly [token: string], 0 | 1>(
  `
if redis.call('GET', KEYS[1]) ~= '1p' .. ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`,
  { keys: 1 },
);

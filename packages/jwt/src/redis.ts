import { assertRedisClient, type RedisClient, type Script, script } from '@countersign/redis';
import { assertKnown, positive } from './options.ts';
import type { DenylistStore, DpopReplayStore } from './store.ts';

export interface RedisStoreOptions {
  /** What keys begin with. Default `countersign:jwt:`. */
  readonly prefix?: string;
  /** How long a call may take, in milliseconds. Default 100. */
  readonly timeoutMs?: number;
}

const ADD: Script<[ttlMs: number], null> = script(
  `if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end`,
  { keys: 1 },
);
const HAS: Script<[], number> = script(`return redis.call('EXISTS', KEYS[1])`, { keys: 1 });
const CLAIM: Script<[ttlMs: number], number> = script(
  `return redis.call('SET', KEYS[1], '1', 'PX', ARGV[1], 'NX') and 1 or 0`,
  { keys: 1 },
);

/** Revoked tokens in Redis or Redis Cluster, for `createDenylist({ store })`. */
export function redisDenylist(redis: RedisClient, options: RedisStoreOptions = {}): DenylistStore {
  const { prefix, timeoutMs } = settings(redis, options);
  return {
    async add(id, ttlMs) {
      await ADD(redis, [`${prefix}deny:${id}`], [ttlMs], { timeoutMs });
    },
    async has(id) {
      return (await HAS(redis, [`${prefix}deny:${id}`], [], { timeoutMs })) === 1;
    },
  };
}

/** Used DPoP proofs in Redis or Redis Cluster. */
export function redisDpopReplayStore(
  redis: RedisClient,
  options: RedisStoreOptions = {},
): DpopReplayStore {
  const { prefix, timeoutMs } = settings(redis, options);
  return {
    async claim(id, ttlMs) {
      return (await CLAIM(redis, [`${prefix}dpop:${id}`], [ttlMs], { timeoutMs })) === 1;
    },
  };
}

function settings(redis: RedisClient, options: RedisStoreOptions): Required<RedisStoreOptions> {
  assertRedisClient('redis', redis);
  assertKnown('store option', options, ['prefix', 'timeoutMs']);
  return {
    prefix: options.prefix ?? 'countersign:jwt:',
    timeoutMs: positive('timeoutMs', options.timeoutMs ?? 100),
  };
}

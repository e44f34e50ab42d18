import { assertKnown, type OptionNames } from '@countersign/options';
import { assertRedisClient, type RedisClient, type Script, script } from '@countersign/redis';
import { body, prelude } from './lua.ts';
import { assertFunction, assertName } from './options.ts';
import { kindNumbers, type Policy } from './policy.ts';
import { tolerance } from './state.ts';
import type { PolicyStatus, RateLimitStore, StoreAnswer } from './store.ts';
import { printableKey } from './subject.ts';

export interface RedisRateLimitStoreOptions {
  /** Begins every key: 1 to 64 of `A–Z a–z 0–9 . _ -`. Default `rl`. */
  readonly prefix?: string;
  /** Milliseconds; decides instead of Redis' clock. For tests: processes whose clocks differ would count differently. */
  readonly now?: () => number;
}

const known: OptionNames<RedisRateLimitStoreOptions> = { prefix: true, now: true };

type Operation = 'take' | 'peek' | 'force' | 'give' | 'renew' | 'restrict';

const run: Script<[request: string], Buffer | number> = script(body, {
  keys: 1,
  argsPerCall: 1,
  prelude,
  replies: 'bytes',
});
const remove: Script<[], number> = script(`return redis.call('DEL', KEYS[1])`, { keys: 1 });

/**
 * Keeps state in Redis: single node, Sentinel or Cluster (ioredis 6). One key per subject and counter, one round trip per check,
 * checks of the same tick together; Redis' clock decides; every key has a time to live.
 * @throws TypeError for an option that makes no sense, naming it; `redis` where it is no client of ioredis.
 */
export function redisRateLimitStore(
  redis: RedisClient,
  options: RedisRateLimitStoreOptions = {},
): RateLimitStore {
  assertKnown(options, known);
  const { prefix = 'rl', now } = options;
  assertRedisClient('redis', redis);
  assertName('prefix', prefix);
  assertFunction('now', now);
  const request = (
    operation: Operation,
    policies: readonly Policy[],
    cost: number,
    slot: number,
  ): [string] => {
    const { spec, takeOne } = encoded(policies);
    if (operation === 'take' && cost === 1 && slot === 0 && !now) return takeOne;
    const moment = now ? Math.floor(now() * 1000) : '';
    return [`${operation} ${cost} ${slot} ${moment} ${spec}`];
  };
  const keyOf = (counter: string, subject: string): [string] => [
    `${prefix}:${counter}:${printableKey(subject)}`,
  ];

  return {
    sync: false,
    consume(counter, subject, policies, cost, mode, slot, timeoutMs) {
      const args = request(mode, policies, cost, slot);
      return run(redis, keyOf(counter, subject), args, { timeoutMs }).then((reply) =>
        answerOf(reply as Buffer, policies),
      );
    },
    async give({ counter, subject }, policies, cost, slot, timeoutMs) {
      const args = request('give', policies, cost, slot);
      await run(redis, keyOf(counter, subject), args, { timeoutMs });
    },
    async renew({ counter, subject }, policies, slot, timeoutMs) {
      const args = request('renew', policies, 0, slot);
      return (await run(redis, keyOf(counter, subject), args, { timeoutMs })) === 1;
    },
    async restrict({ counter, subject }, policies, remaining, durationMs, timeoutMs) {
      const args = request('restrict', policies, remaining, durationMs);
      await run(redis, keyOf(counter, subject), args, { timeoutMs });
    },
    async reset({ counter, subject }, timeoutMs) {
      await remove(redis, keyOf(counter, subject), [], { timeoutMs });
    },
  };
}

interface Encoded {
  readonly spec: string;
  /** The most frequent request. */
  readonly takeOne: [request: string];
}

const encodings = new WeakMap<readonly Policy[], Encoded>();

function encoded(policies: readonly Policy[]): Encoded {
  const known = encodings.get(policies);
  if (known !== undefined) return known;
  const spec = policies
    .map(
      ({ kind, windowUs, limit, refillPerSecond }) =>
        `${kindNumbers[kind]}:${windowUs}:${limit}:${refillPerSecond};`,
    )
    .join('');
  const encoding: Encoded = { spec, takeOne: [`take 1 0  ${spec}`] };
  encodings.set(policies, encoding);
  return encoding;
}

/** Reads what `lua.ts` packed. */
function answerOf(reply: Buffer, policies: readonly Policy[]): StoreAnswer {
  const granted = reply[0] === 1;
  let at = 1;
  const next = (): number => {
    const value = reply.readDoubleLE(at);
    at += 8;
    return value;
  };
  const pausedMs = granted ? 0 : Math.ceil(next() / 1000);
  const statuses = policies.map(
    (policy): PolicyStatus => ({
      name: policy.name,
      limit: policy.limit,
      windowSeconds: policy.windowSeconds,
      concurrent: policy.kind === 'concurrency',
      remaining: Math.max(0, Math.floor(next() + tolerance)),
      resetMs: Math.ceil(next() / 1000),
      retryAfterMs: granted ? 0 : Math.ceil(next() / 1000),
    }),
  );
  return { granted, pausedMs, policies: statuses };
}

import { type RedisClient, type Script, script } from '@countersign/redis';
import { body, prelude } from './lua.ts';
import { assertName, type Policy, type PolicyKind } from './policy.ts';
import type { PolicyStatus, RateLimitStore, StoreAnswer } from './store.ts';
import { printableKey } from './subject.ts';

export interface RedisRateLimitStoreOptions {
  /** Begins every key: 1 to 64 of `A–Z a–z 0–9 . _ -`. Default `rl`. */
  readonly prefix?: string;
  /** Milliseconds; decides instead of Redis' clock. For tests: processes whose clocks differ would count differently. */
  readonly now?: () => number;
}

type Operation = 'take' | 'peek' | 'force' | 'give' | 'renew' | 'restrict';
type Arguments =
  | [operation: Operation, policies: string, cost: number]
  | [operation: Operation, policies: string, cost: number, slot: number]
  | [operation: Operation, policies: string, cost: number, slot: number, nowUs: number];

const run: Script<Arguments, number[] | number> = script(body, { keys: 1, prelude });
const remove: Script<[], number> = script(`return redis.call('DEL', KEYS[1])`, { keys: 1 });

/**
 * Keeps state in Redis: single node, Sentinel or Cluster (ioredis 6). One key per subject and counter, one round trip per check,
 * checks of the same tick together; Redis' clock decides; every key has a time to live.
 */
export function redisRateLimitStore(
  redis: RedisClient,
  options: RedisRateLimitStoreOptions = {},
): RateLimitStore {
  const { prefix = 'rl', now } = options;
  assertName('prefix', prefix);
  const argumentsFor = (
    operation: Operation,
    policies: readonly Policy[],
    cost: number,
    slot: number,
  ): Arguments => {
    const spec = specOf(policies);
    if (now) return [operation, spec, cost, slot, Math.floor(now() * 1000)];
    return slot === 0 ? [operation, spec, cost] : [operation, spec, cost, slot];
  };
  const keyOf = (counter: string, subject: string): [string] => [
    `${prefix}:${counter}:${printableKey(subject)}`,
  ];

  return {
    sync: false,
    consume(counter, subject, policies, cost, mode, slot, timeoutMs) {
      const args = argumentsFor(mode, policies, cost, slot);
      return run(redis, keyOf(counter, subject), args, { timeoutMs }).then((reply) =>
        answerOf(reply as number[], policies),
      );
    },
    async give({ counter, subject }, policies, cost, slot, timeoutMs) {
      const args = argumentsFor('give', policies, cost, slot);
      await run(redis, keyOf(counter, subject), args, { timeoutMs });
    },
    async renew({ counter, subject }, policies, slot, timeoutMs) {
      const args = argumentsFor('renew', policies, 0, slot);
      return (await run(redis, keyOf(counter, subject), args, { timeoutMs })) === 1;
    },
    async restrict({ counter, subject }, policies, remaining, durationMs, timeoutMs) {
      const args = argumentsFor('restrict', policies, remaining, durationMs);
      await run(redis, keyOf(counter, subject), args, { timeoutMs });
    },
    async reset({ counter, subject }, timeoutMs) {
      await remove(redis, keyOf(counter, subject), [], { timeoutMs });
    },
  };
}

const kindNumbers: Readonly<Record<PolicyKind, number>> = {
  'token-bucket': 1,
  'sliding-window': 2,
  'fixed-window': 3,
  'sliding-log': 4,
  concurrency: 5,
};

const specs = new WeakMap<readonly Policy[], string>();

function specOf(policies: readonly Policy[]): string {
  const known = specs.get(policies);
  if (known !== undefined) return known;
  const spec = policies
    .map(
      ({ kind, windowUs, limit, refillPerSecond }) =>
        `${kindNumbers[kind]}:${windowUs}:${limit}:${refillPerSecond};`,
    )
    .join('');
  specs.set(policies, spec);
  return spec;
}

function answerOf(reply: readonly number[], policies: readonly Policy[]): StoreAnswer {
  const statuses = policies.map((policy, index): PolicyStatus => {
    const at = 2 + 3 * index;
    const wait = reply[at + 2] as number;
    return {
      name: policy.name,
      limit: policy.limit,
      windowSeconds: policy.windowSeconds,
      concurrent: policy.kind === 'concurrency',
      remaining: reply[at] as number,
      resetMs: reply[at + 1] as number,
      retryAfterMs: wait < 0 ? Number.POSITIVE_INFINITY : wait,
    };
  });
  return { granted: reply[0] === 1, pausedMs: reply[1] as number, policies: statuses };
}

import type { Guard } from '@countersign/guard';
import { Redis } from 'ioredis';
import { afterAll, describe, expect, it } from 'vitest';
import { addressKey, rateLimitGuard } from '../src/guard.ts';
import {
  concurrency,
  createRateLimiter,
  defaultTiers,
  fixedWindow,
  memoryRateLimitStore,
  rateLimitHeaders,
  slidingLog,
  slidingWindow,
  tokenBucket,
} from '../src/index.ts';
import { redisRateLimitStore } from '../src/redis.ts';
import { pace } from '../src/undici.ts';

const redis = new Redis({ lazyConnect: true });
afterAll(() => redis.disconnect());

const limits = [slidingWindow({ limit: 1, windowSeconds: 1 })];
const store = memoryRateLimitStore();
const limiter = createRateLimiter({ store, policies: { one: limits } });
const decision = limiter.checkSync('somebody');
/** As JavaScript has it, without types. */
const untyped = (options: object): never => options as never;

const misspelt: Readonly<Record<string, () => unknown>> = {
  onStoreErorr: () =>
    createRateLimiter(untyped({ store, policies: { one: limits }, onStoreErorr: 'open' })),
  'lease.maxAgeMS': () =>
    createRateLimiter({
      store,
      policies: { one: limits },
      lease: untyped({ size: 2, maxAgeMS: 1 }),
    }),
  'policies.one.shared': () =>
    createRateLimiter({ store, policies: { one: untyped({ limits, shared: 'tier' }) } }),
  'policies.one.shadwo': () => limiter.setPolicies('one', untyped({ limits, shadwo: true })),
  maxSubject: () => memoryRateLimitStore(untyped({ maxSubject: 5 })),
  keyPrefix: () => redisRateLimitStore(redis, untyped({ keyPrefix: 'a' })),
  keys: (): Guard<unknown> => rateLimitGuard(limiter, untyped({ keys: 1 })),
  'headers.styles': () => rateLimitGuard(limiter, { headers: untyped({ styles: 'ietf' }) }),
  styles: () => rateLimitHeaders(decision, untyped({ styles: 'ietf' })),
  ipv6Prefix: () => addressKey('::1', untyped({ ipv6Prefix: 64 })),
  maxWait: () => pace(limiter, untyped({ maxWait: 1 })),
  refillPerMinute: () =>
    tokenBucket(untyped({ capacity: 1, refillPerSecond: 1, refillPerMinute: 1 })),
  windowMs: () => slidingWindow(untyped({ limit: 1, windowSeconds: 1, windowMs: 1 })),
  window: () => slidingLog(untyped({ limit: 1, windowSeconds: 1, window: 1 })),
  max: () => fixedWindow(untyped({ limit: 1, windowSeconds: 1, max: 1 })),
  leaseSecond: () => concurrency(untyped({ limit: 1, leaseSecond: 5 })),
};

describe('an option that there is not', () => {
  it.each(Object.entries(misspelt))('%s', (name, make) => {
    expect(make).toThrow(new TypeError(`${name}: there is no such option`));
  });

  it('is none of those that there are', () => {
    const all = {
      store,
      policies: { ...defaultTiers, slots: [concurrency({ limit: 1, leaseSeconds: 5, name: 'a' })] },
      onStoreError: 'local',
      timeoutMs: 5,
      replicas: 2,
      lease: { size: 2, maxAgeMs: 5 },
      overrides: () => undefined,
      deny: () => false,
      now: () => 0,
    } as const;
    expect(createRateLimiter(all).sync).toBe(true);
    const headers = { style: 'ietf', draft: 10, now: () => 0 } as const;
    const guard = { policy: 'one', key: () => 'a', cost: 1, actualCost: () => 1, headers } as const;
    expect(rateLimitGuard(limiter, guard)).toBeTypeOf('function');
    const paced = {
      policy: 'one',
      key: () => 'a',
      cost: () => 1,
      maxWaitMs: 5,
      maxRestrictMs: 5,
    } as const;
    expect(pace(limiter, paced)).toBeTypeOf('function');
    expect(redisRateLimitStore(redis, { prefix: 'a', now: () => 0 }).sync).toBe(false);
    expect(memoryRateLimitStore({ maxSubjects: 5, now: () => 0 }).size).toBe(0);
  });
});

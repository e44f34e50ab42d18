import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  createRateLimiter,
  defaultTiers,
  fixedWindow,
  type RateLimiter,
  slidingWindow,
  tokenBucket,
} from '../src/index.ts';
import { redisRateLimitStore } from '../src/redis.ts';

let server: RedisServer;
let redis: Redis;
beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterAll(() => server.stop());
beforeEach(() => redis.flushall());

const hour = [fixedWindow({ limit: 1000, windowSeconds: 31_622_400 })];

function limiterOn(client: Redis, options = {}): RateLimiter<'p'> {
  const store = redisRateLimitStore(client);
  return createRateLimiter({ store, policies: { p: hour }, timeoutMs: 10_000, ...options });
}

async function calls(command: string): Promise<number> {
  const stats = await redis.info('commandstats');
  return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
}

test('of 4 processes that make 5,000 concurrent checks each, exactly the limit passes', async () => {
  const worker = new URL('./worker.ts', import.meta.url);
  const workers: ChildProcess[] = Array.from({ length: 4 }, () =>
    fork(worker, [server.url, '5000']),
  );
  const passed = await Promise.all(
    workers.map(async (child) => Number((await once(child, 'message'))[0])),
  );
  expect(passed.reduce((sum, count) => sum + count, 0)).toBe(1000);
});

describe('what a check asks of Redis', () => {
  test('is one call of one script, whatever the number of limits', async () => {
    const limiter = createRateLimiter({
      store: redisRateLimitStore(redis),
      policies: defaultTiers,
      timeoutMs: 10_000,
    });
    await limiter.check('warm', { policy: 'free' });
    const before = await Promise.all([calls('evalsha'), calls('eval'), calls('script')]);
    for (let count = 0; count < 10; count += 1) await limiter.check('s', { policy: 'free' });
    const after = await Promise.all([calls('evalsha'), calls('eval'), calls('script')]);
    expect(after.map((count, index) => count - (before[index] as number))).toEqual([10, 0, 0]);
  });

  test('is nothing once it was refused', async () => {
    const limiter = limiterOn(redis);
    await limiter.check('s', { cost: 1000 });
    await limiter.check('s');
    const before = await calls('evalsha');
    await Promise.all(Array.from({ length: 100 }, () => limiter.check('s')));
    expect(await calls('evalsha')).toBe(before);
  });
});

describe('what is left in Redis', () => {
  test('ends by itself, every key of it', async () => {
    const limiter = createRateLimiter({
      store: redisRateLimitStore(redis),
      policies: {
        window: [slidingWindow({ limit: 2, windowSeconds: 1 })],
        bucket: [tokenBucket({ capacity: 1, refillPerSecond: 1000 })],
        slow: [tokenBucket({ capacity: 10, refillPerSecond: 0.01 })],
      },
      timeoutMs: 10_000,
    });
    for (const policy of ['window', 'bucket', 'slow'] as const) {
      for (let index = 0; index < 50; index += 1) {
        await limiter.check(`s${index}`, { policy });
        await limiter.check(`s${index}`, { policy, cost: 1000 });
        await limiter.restrict(`s${index}`, { policy, remaining: 0, durationMs: 50 });
        await limiter.refund(`s${index}`, { policy });
      }
    }
    let cursor = '0';
    let seen = 0;
    do {
      const [next, keys] = await redis.scan(cursor, 'COUNT', 100);
      cursor = next;
      for (const key of keys) {
        seen += 1;
        expect(await redis.pttl(key)).not.toBe(-1);
      }
    } while (cursor !== '0');
    expect(seen).toBeGreaterThan(50);
  });

  test('is under 300 bytes for 10,000 an hour, and one key per subject', async () => {
    const limiter = createRateLimiter({
      store: redisRateLimitStore(redis),
      policies: { paid: defaultTiers.paid },
      timeoutMs: 10_000,
    });
    for (let turn = 0; turn < 20; turn += 1)
      await Promise.all(
        Array.from({ length: 15 }, () => limiter.check('user-1234567', { cost: 1 })),
      );
    const [key, ...others] = await redis.keys('*');
    expect(others).toEqual([]);
    expect(Number(await redis.memory('USAGE', key as string))).toBeLessThan(300);
  });

  test('has no control characters and no long names in its keys', async () => {
    const limiter = limiterOn(redis);
    await limiter.check('x'.repeat(1e7));
    await limiter.check('a\r\nb\u0000');
    for (const key of await redis.keys('*')) expect(key).toMatch(/^[\x21-\x7e]{1,80}$/);
  });
});

describe('a shared store that has trouble', () => {
  test('SCRIPT FLUSH goes unnoticed, and nothing is charged twice', async () => {
    const limiter = limiterOn(redis);
    await limiter.check('s', { cost: 100 });
    await redis.script('FLUSH');
    expect(await limiter.check('s', { cost: 100 })).toMatchObject({
      source: 'store',
      remaining: 800,
    });
  });

  test('killed: decided here within the time given; restarted: decided there again', async () => {
    const own = await startRedis({ persistence: 'aof' });
    try {
      const limiter = limiterOn(own.client(), {
        timeoutMs: 100,
        onStoreError: 'local',
        replicas: 4,
      });
      await limiter.check('s', { cost: 500 });
      await own.kill();
      const during = await Promise.all(Array.from({ length: 300 }, () => limiter.check('s')));
      expect(during.every(({ source }) => source === 'degraded')).toBe(true);
      expect(during.filter(({ allowed }) => allowed)).toHaveLength(250);
      await own.restart();
      await expect
        .poll(async () => (await limiter.check('s')).source, { timeout: 10_000 })
        .toBe('store');
      expect((await limiter.peek('s')).remaining).toBeLessThan(500);
    } finally {
      await own.stop();
    }
  });

  test('paused: no check hangs', async () => {
    const own = await startRedis();
    try {
      const limiter = limiterOn(own.client(), { timeoutMs: 50 });
      await limiter.check('s');
      own.pause();
      const during = await Promise.all(Array.from({ length: 50 }, () => limiter.check('s')));
      expect(during.every(({ allowed, source }) => !allowed && source === 'degraded')).toBe(true);
      own.resume();
      await expect
        .poll(async () => (await limiter.check('s')).source, { timeout: 10_000 })
        .toBe('store');
    } finally {
      await own.stop();
    }
  });

  test('failed over: counting goes on where the replica was', async () => {
    const cluster: RedisClusterServers = await startRedisCluster({ replicas: 1 });
    try {
      const store = redisRateLimitStore(cluster.client());
      const limiter = createRateLimiter({ store, policies: { p: hour }, timeoutMs: 10_000 });
      const subjects = Array.from({ length: 30 }, (_, index) => `s${index}`);
      await Promise.all(subjects.map((subject) => limiter.check(subject, { cost: 10 })));
      await Promise.all([0, 1, 2].map((index) => cluster.failover(index)));
      const after = await Promise.all(subjects.map((subject) => limiter.check(subject)));
      expect(after.map(({ remaining }) => remaining)).toEqual(subjects.map(() => 989));
    } finally {
      await cluster.stop();
    }
  });
});

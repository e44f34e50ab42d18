import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import type { Cluster, Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { idempotencyGuard } from '../src/guard.ts';
import { redisIdempotencyStore } from '../src/redis.ts';
import type { Claim, HeldClaim } from '../src/store.ts';
import { passed, refused, requestOf } from './request.ts';
import { rewind } from './rewind.ts';
import { idempotencyStoreContract } from './store.contract.ts';

let server: RedisServer;
let redis: Redis;
let clusterServers: RedisClusterServers;
let cluster: Cluster;

beforeAll(async () => {
  [server, clusterServers] = await Promise.all([startRedis(), startRedisCluster()]);
  redis = server.client();
  cluster = clusterServers.client();
});

afterAll(async () => {
  await Promise.all([server.stop(), clusterServers.stop()]);
});

beforeEach(async () => {
  await redis.flushall();
});

idempotencyStoreContract('Redis', () => ({
  store: redisIdempotencyStore(redis),
  advance: (ms) => rewind(redis, 'idempotency:', ms),
}));

idempotencyStoreContract('Redis Cluster', async () => {
  await Promise.all(cluster.nodes('master').map((node) => node.flushall()));
  return {
    store: redisIdempotencyStore(cluster),
    advance: (ms) => rewind(cluster, 'idempotency:', ms),
  };
});

const claim: Claim = {
  id: 'id',
  owner: 'owner',
  fingerprint: 'f'.repeat(43),
  leaseMs: 30_000,
  ttlMs: 60_000,
};

describe('redisIdempotencyStore', () => {
  test('is asked twice for a first request and once for a replay, for anything else once too', async () => {
    const store = redisIdempotencyStore(redis);
    const guard = idempotencyGuard({ store, principal: () => 'alice' });
    const send = async () => await guard(requestOf({ key: 'k' }), {});
    const held = { ...claim, fence: 1 };
    // Has the scripts loaded, and leaves a record that may be renewed.
    await store.begin(claim, { takeover: false });
    await store.renew(held);
    const commands = async (during: () => Promise<unknown>): Promise<number> => {
      await redis.config('RESETSTAT');
      await during();
      const calls = (await redis.info('commandstats')).matchAll(/cmdstat_eval\w*:calls=(\d+)/g);
      return [...calls].reduce((sum, [, count]) => sum + Number(count), 0);
    };
    const outcome = { status: 201, headers: [], body: Buffer.from('paid'), aborted: false };
    expect(await commands(async () => passed(await send()).settle?.(outcome))).toBe(2);
    expect(await commands(async () => refused(await send()))).toBe(1);
    expect(await commands(() => store.renew(held))).toBe(1);
    expect(await commands(() => store.release(held))).toBe(1);
    expect(await commands(() => store.abandon(held))).toBe(1);
  });

  test('never leaves a key without an end', async () => {
    const store = redisIdempotencyStore(redis);
    const begun = await store.begin(claim, { takeover: false });
    const held = { ...claim, fence: begun.state === 'acquired' ? begun.fence : 0 };
    const lifetime = async (): Promise<number> => await redis.pttl('idempotency:id');
    expect(await lifetime()).toBeGreaterThan(59_000);
    await store.renew(held);
    expect(await lifetime()).toBeGreaterThan(59_000);
    await store.abandon(held);
    expect(await lifetime()).toBeGreaterThan(59_000);
    await redis.del('idempotency:id');
    await store.complete(held, Buffer.from('done'));
    expect(await lifetime()).toBeGreaterThan(59_000);
    expect(await lifetime()).toBeLessThanOrEqual(60_000);
  });

  test('keeps a released record for a lease only', async () => {
    const store = redisIdempotencyStore(redis);
    const begun = await store.begin(claim, { takeover: false });
    await store.release({ ...claim, fence: begun.state === 'acquired' ? begun.fence : 0 });
    expect(await redis.pttl('idempotency:id')).toBeLessThanOrEqual(30_000);
  });

  test('writes records as docs/storage says, with the time of Redis', async () => {
    const store = redisIdempotencyStore(redis);
    const record = async (): Promise<string | null> => await redis.get('idempotency:id');
    const begin = async (owner: string, takeover: boolean): Promise<HeldClaim> => {
      const begun = await store.begin({ ...claim, owner }, { takeover });
      if (begun.state !== 'acquired') throw new Error(begun.state);
      return { ...claim, owner, fence: begun.fence };
    };
    const [seconds] = await redis.time();
    const first = await begin('first', false);
    expect(Math.abs(first.fence / 1000 - Number(seconds))).toBeLessThan(10);
    expect(await record()).toBe(
      `1 p ${first.fence} ${claim.fingerprint} ${first.fence + claim.leaseMs} first\n`,
    );
    await store.abandon(first);
    expect(await record()).toBe(`1 u ${first.fence} ${claim.fingerprint}\n`);
    const second = await begin('second', true);
    const [, leaseUntil] = /(\d+) second\n$/.exec((await record()) ?? '') ?? [];
    expect(await record()).toBe(`1 t ${second.fence} ${claim.fingerprint} ${leaseUntil} second\n`);
    await store.complete(second, Buffer.from('paid'));
    expect(await record()).toBe(`1 c ${second.fence} ${claim.fingerprint}\npaid`);
    await redis.del('idempotency:id');
    const third = await begin('third', false);
    await store.release(third);
    expect(await record()).toBe(`1 r ${third.fence} -\n`);
  });

  test.each<[string, unknown, object?]>([
    ['redis', undefined],
    ['redis', 'redis://localhost:6379'],
    ['redis', { duplicate() {}, sendCommand() {}, isOpen: true }],
    ['timeoutMs', {}, { timeoutMs: 0 }],
    ['timeoutMs', {}, { timeoutMs: '250' }],
    ['keyPrefix', {}, { keyPrefix: 'shop:' }],
  ])('refuses what would fail with every request: %s', (name, mistake, options) => {
    const client = name === 'redis' ? mistake : redis;
    const make = () => redisIdempotencyStore(client as Redis, options);
    expect(make).toThrow(TypeError);
    expect(make).toThrow(new RegExp(`^${name}: `));
  });

  test('begins its keys as told', async () => {
    await redisIdempotencyStore(redis, { prefix: 'shop:' }).begin(claim, { takeover: false });
    expect(await redis.keys('*')).toEqual(['shop:id']);
  });

  test('refuses to read, or to run over, a record of another format', async () => {
    const store = redisIdempotencyStore(redis);
    await redis.set('idempotency:id', '2 something newer');
    const unreadable = { code: 'ERR_IDEMPOTENCY_RECORD_UNREADABLE' };
    await expect(store.begin(claim, { takeover: true })).rejects.toMatchObject(unreadable);
    await expect(store.renew({ ...claim, fence: 1 })).rejects.toMatchObject(unreadable);
    expect(await redis.get('idempotency:id')).toBe('2 something newer');
  });
});

import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import type { Cluster, Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createInbox, createWebhookQueue } from '../src/bullmq.ts';
import { memoryEndpointStore } from '../src/index.ts';
import { redisEndpointStore, redisReplayStore } from '../src/redis.ts';
import { replayStoreContract } from './store.contract.ts';

let server: RedisServer;
let redis: Redis;
let cluster: RedisClusterServers;
let clusterClient: Cluster;

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
  cluster = await startRedisCluster();
  clusterClient = cluster.client();
});

afterAll(async () => {
  await server.stop();
  await cluster.stop();
});

const prefix = 'webhooks:replay:';

/** Lets time pass without waiting: Redis' own clock decides, so the keys end earlier by this much. */
async function rewind(node: Redis, ms: number): Promise<void> {
  for (const key of await node.keys(`${prefix}*`)) {
    const leftMs = (await node.pttl(key)) - ms;
    if (leftMs > 0) await node.pexpire(key, leftMs);
    else await node.del(key);
  }
}

replayStoreContract('Redis', async () => {
  await redis.flushall();
  return { store: redisReplayStore(redis), advance: async (ms) => await rewind(redis, ms) };
});

replayStoreContract('Redis Cluster', async () => {
  const masters = (): Redis[] => clusterClient.nodes('master');
  await clusterClient.ping();
  await Promise.all(masters().map((node) => node.flushall()));
  return {
    store: redisReplayStore(clusterClient),
    advance: async (ms) => {
      await Promise.all(masters().map((node) => rewind(node, ms)));
    },
  };
});

describe('redisReplayStore', () => {
  test('never leaves a key without an end', async () => {
    const store = redisReplayStore(redis);
    const claim = await store.claim('ttl', 30_000);
    expect(await redis.pttl(`${prefix}ttl`)).toBeGreaterThan(0);
    if (claim.status !== 'claimed') throw new Error('not claimed');
    await store.complete('ttl', claim.token, 60_000);
    const leftMs = await redis.pttl(`${prefix}ttl`);
    expect(leftMs).toBeGreaterThan(30_000);
    expect(leftMs).toBeLessThanOrEqual(60_000);
  });

  test('rejects within its deadline when Redis does not answer', async () => {
    const lonely = await startRedis();
    const store = redisReplayStore(lonely.client(), { timeoutMs: 100 });
    await store.claim('a', 1000);
    lonely.pause();
    await expect(store.claim('b', 1000)).rejects.toMatchObject({ name: 'StoreUnavailableError' });
    lonely.resume();
    await lonely.stop();
  });
});

test('refuses what is no client of ioredis when it is made', () => {
  const encryptionKeys = [Buffer.alloc(32)];
  const endpoints = memoryEndpointStore();
  for (const none of [undefined, 'redis://127.0.0.1', { host: '127.0.0.1' }] as never[]) {
    for (const make of [
      () => redisReplayStore(none),
      () => redisEndpointStore(none, { encryptionKeys }),
      () => createWebhookQueue({ connection: none, endpoints }),
      () => createInbox({ connection: none, handle: () => undefined }),
    ]) {
      expect(make).toThrow(/^(redis|connection): expected a Redis or Cluster of ioredis$/);
    }
  }
});

test.each([0, Number.NaN, 3_600_001])('refuses a timeoutMs of %d when it is made', (timeoutMs) => {
  for (const make of [
    () => redisReplayStore(redis, { timeoutMs }),
    () => redisEndpointStore(redis, { encryptionKeys: [Buffer.alloc(32)], timeoutMs }),
  ]) {
    expect(make).toThrow(TypeError);
    expect(make).toThrow('timeoutMs');
  }
});

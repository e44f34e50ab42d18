import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { redisRateLimitStore } from '../src/redis.ts';
import { rateLimitStoreContract } from './store.contract.ts';

let server: RedisServer;
let cluster: RedisClusterServers;
beforeAll(async () => {
  [server, cluster] = await Promise.all([startRedis(), startRedisCluster()]);
});
afterAll(() => Promise.all([server.stop(), cluster.stop()]));

describe('a store on', () => {
  rateLimitStoreContract('Redis', (now) => redisRateLimitStore(server.client(), { now }));
  rateLimitStoreContract('Redis Cluster', (now) => redisRateLimitStore(cluster.client(), { now }));
});

describe('options that make no sense are refused, by name, and not taken for a server that is down', () => {
  const nodeRedis = { isOpen: true, connect: async () => {}, sendCommand: async () => 'OK' };

  test.each([
    ['redis', undefined, {}],
    ['redis', 'redis://127.0.0.1', {}],
    ['redis', { storeClient: {} }, {}],
    ['redis', nodeRedis, {}],
    ['prefix', undefined, { prefix: 'a b' }],
    ['now', undefined, { now: 5 }],
  ])('%s', (option, client, options) => {
    const redis = option === 'redis' ? client : server.client();
    expect(() => redisRateLimitStore(redis as never, options as never)).toThrow(
      new RegExp(`^${option}: `),
    );
  });
});

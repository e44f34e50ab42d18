import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import { afterAll, beforeAll, describe } from 'vitest';
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

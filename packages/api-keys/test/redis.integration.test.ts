import { redisApiKeyStore } from '@countersign/api-keys/redis';
import { apiKeyStoreContract } from '@countersign/api-keys/store-contract';
import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import { afterAll, beforeAll, describe } from 'vitest';

describe('single node', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(() => server.stop());
  apiKeyStoreContract('Redis', () => redisApiKeyStore(server.client()));
});

describe('cluster', () => {
  let cluster: RedisClusterServers;
  beforeAll(async () => {
    cluster = await startRedisCluster();
  });
  afterAll(() => cluster.stop());
  apiKeyStoreContract('Redis Cluster', () => redisApiKeyStore(cluster.client()));
});

import { type RedisServer, startRedis, startRedisCluster } from '@countersign/testkit/redis';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { redisEndpointStore } from '../src/redis.ts';
import { endpointStoreContract } from './endpoint-store.contract.ts';

let server: RedisServer;
let redis: Redis;
const encryptionKeys = [Buffer.alloc(32, 1)];

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterAll(async () => {
  await server.stop();
});

endpointStoreContract('Redis', async () => {
  await redis.flushall();
  return redisEndpointStore(redis, { encryptionKeys });
});

const endpoint = {
  id: 'a',
  url: 'https://example.com/',
  secrets: [{ secret: 'whsec_nobody-reads-this' }],
  types: ['*'],
  createdAtMs: 1,
  tls: { cert: 'c', key: 'nor-this' },
};

test('never stores a secret or a private key readable', async () => {
  await redisEndpointStore(redis, { encryptionKeys }).put(endpoint);
  const stored = JSON.stringify(await redis.hgetall('webhooks:{endpoints}:records'));
  expect(stored).toContain('https://example.com/');
  for (const secret of ['nobody-reads-this', 'nor-this']) {
    expect(stored).not.toContain(secret);
    expect(stored).not.toContain(Buffer.from(secret).toString('base64').slice(2, -4));
  }
});

test('reads with an older key while the encryption key is rotated, and never with another', async () => {
  await redisEndpointStore(redis, { encryptionKeys }).put(endpoint);
  const rotated = redisEndpointStore(redis, {
    encryptionKeys: [Buffer.alloc(32, 2), ...encryptionKeys],
  });
  expect(await rotated.get('a')).toEqual(endpoint);
  const stranger = redisEndpointStore(redis, { encryptionKeys: [Buffer.alloc(32, 3)] });
  await expect(stranger.get('a')).rejects.toMatchObject({ code: 'ERR_WEBHOOKS_STORE_FAILED' });
});

test('does not open what was moved to another endpoint', async () => {
  const store = redisEndpointStore(redis, { encryptionKeys });
  await store.put(endpoint);
  const record = JSON.parse(
    (await redis.hget('webhooks:{endpoints}:records', 'a')) ?? '',
  ) as object;
  await redis.hset('webhooks:{endpoints}:records', 'b', JSON.stringify({ ...record, id: 'b' }));
  await expect(store.get('b')).rejects.toMatchObject({ code: 'ERR_WEBHOOKS_STORE_FAILED' });
});

test('keeps all keys in one slot of a cluster', async () => {
  const cluster = await startRedisCluster();
  const store = redisEndpointStore(cluster.client(), { encryptionKeys });
  await store.put({ ...endpoint, types: ['a.b', 'a.*', '*'] });
  expect(await store.matching('a.b')).toEqual(['a']);
  await cluster.stop();
});

test('keeps its format whatever else an endpoint holds', async () => {
  const store = redisEndpointStore(redis, { encryptionKeys });
  const strange = { ...endpoint, id: 'strange', v: 2, sealed: 'x' };
  await store.put(strange);
  expect(await store.get('strange')).toEqual({ ...endpoint, id: 'strange' });
  await store.delete('strange');
});

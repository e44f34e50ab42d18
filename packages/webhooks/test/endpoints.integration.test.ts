import { type RedisServer, startRedis, startRedisCluster } from '@countersign/testkit/redis';
import * as fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Endpoint, memoryEndpointStore } from '../src/index.ts';
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

test('never stores a secret, a private key or a URL readable', async () => {
  await redisEndpointStore(redis, { encryptionKeys }).put(endpoint);
  const stored = JSON.stringify(await redis.hgetall('webhooks:{endpoints}:records'));
  for (const secret of ['nobody-reads-this', 'nor-this', 'example.com']) {
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

test('takes keys that have to be got, and says so when they cannot be', async () => {
  let away = true;
  const got = async (): Promise<Uint8Array> => {
    if (away) throw new Error('the vault is away');
    return encryptionKeys[0] as Uint8Array;
  };
  const store = redisEndpointStore(redis, { encryptionKeys: [got] });
  await expect(store.put(endpoint)).rejects.toMatchObject({ code: 'ERR_SEAL_KEY_UNAVAILABLE' });
  away = false;
  await store.put(endpoint);
  expect(await redisEndpointStore(redis, { encryptionKeys }).get('a')).toEqual(endpoint);
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

test('does not open a secret as something else, nor something else as a secret', async () => {
  const store = redisEndpointStore(redis, { encryptionKeys });
  await store.put({ ...endpoint, headers: { 'x-a': 'b' } });
  const text = (await redis.hget('webhooks:{endpoints}:records', 'a')) ?? '';
  const record = JSON.parse(text) as { fields: { url: string; headers: string; tls: string } };
  const { headers, tls } = record.fields;
  for (const forged of [{ headers: tls, tls: headers }, { url: '"https://attacker.example/"' }]) {
    const changed = { ...record, fields: { ...record.fields, ...forged } };
    await redis.hset('webhooks:{endpoints}:records', 'a', JSON.stringify(changed));
    await expect(store.get('a')).rejects.toMatchObject({ code: 'ERR_WEBHOOKS_STORE_FAILED' });
  }
});

const name = fc.constantFrom('a', 'b');
const changes = fc.record(
  {
    url: fc.webUrl(),
    types: fc.uniqueArray(fc.constantFrom('*', 'x', 'x.*', 'y'), { minLength: 1 }),
    headers: fc.option(fc.dictionary(fc.constantFrom('x-a', 'x-b'), fc.string()), {
      nil: undefined,
    }),
    fifo: fc.option(fc.boolean(), { nil: undefined }),
    concurrency: fc.option(fc.integer({ min: 1, max: 1000 }), { nil: undefined }),
    maxPerSecond: fc.option(fc.double({ min: 1e-3, max: 1e6, noNaN: true }), { nil: undefined }),
  },
  { requiredKeys: [] },
);
const rotation = fc.record({
  secret: fc.string({ minLength: 1 }),
  atMs: fc.integer({ min: 1_700_000_000_000, max: 1_700_000_001_000 }),
  overlapEndsAtMs: fc.integer({ min: 1_700_000_000_000, max: 1_700_000_002_000 }),
});
const operation = fc.oneof(
  fc.tuple(fc.constant('create' as const), name, changes),
  fc.tuple(fc.constant('update' as const), name, changes),
  fc.tuple(fc.constant('rotateSecret' as const), name, rotation),
  fc.tuple(fc.constant('delete' as const), name, fc.constant({})),
);

test('does what the memory store does, whatever is asked of it', async () => {
  const property = fc.asyncProperty(
    fc.array(operation, { size: 'max', maxLength: 20 }),
    async (operations) => {
      await redis.flushall();
      const stores = [memoryEndpointStore(), redisEndpointStore(redis, { encryptionKeys })];
      for (const [what, id, given] of operations) {
        const [expected, actual] = await Promise.all(
          stores.map(async (store) => {
            if (what === 'create') {
              const { headers: _, ...settings } = given;
              return await store.create({ ...endpoint, id, ...defined(settings) } as Endpoint);
            }
            if (what === 'update') return await store.update(id, given);
            if (what === 'delete') return await store.delete(id);
            return await store.rotateSecret(id, given);
          }),
        );
        expect(actual).toEqual(expected);
      }
      const [memory, ours] = await Promise.all(
        stores.map(async (store) => ({
          all: [...(await store.list())].sort((one, other) => (one.id < other.id ? -1 : 1)),
          wanting: await Promise.all(
            ['x', 'x.1', 'y', 'z'].map(async (type) => [...(await store.matching(type))].sort()),
          ),
        })),
      );
      expect(ours).toEqual(memory);
    },
  );
  await fc.assert(property, { numRuns: 60 });
});

/** Without what is `undefined`. */
function defined<T extends object>(settings: T): T {
  const entries = Object.entries(settings).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as T;
}

test('keeps its format whatever else an endpoint holds', async () => {
  const store = redisEndpointStore(redis, { encryptionKeys });
  const strange = { ...endpoint, id: 'strange', v: 2, sealed: 'x' };
  await store.put(strange);
  expect(await store.get('strange')).toEqual({ ...endpoint, id: 'strange' });
  await store.delete('strange');
});

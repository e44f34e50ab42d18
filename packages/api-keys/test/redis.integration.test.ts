import { type ApiKeysOptions, createApiKeys } from '@countersign/api-keys';
import { apiKeyGuard } from '@countersign/api-keys/guard';
import { redisApiKeyStore } from '@countersign/api-keys/redis';
import { apiKeyStoreContract } from '@countersign/api-keys/store-contract';
import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collect, counted, DAY_MS, guardRequest, PEPPER_1 } from './fixtures.ts';
import { spreadRevocations } from './revocations.ts';

function service(redis: Redis, options: Partial<ApiKeysOptions> = {}) {
  const clock = { ms: Date.now() };
  const store = redisApiKeyStore(redis, { now: () => clock.ms });
  const keys = createApiKeys({
    peppers: [PEPPER_1],
    now: () => clock.ms,
    ...options,
    store: options.store ?? store,
  });
  return { keys, store, clock };
}

describe('one Redis', () => {
  let server: RedisServer;
  let redis: Redis;
  beforeAll(async () => {
    server = await startRedis({ persistence: 'aof' });
    redis = server.client();
  });
  afterAll(() => server.stop());

  apiKeyStoreContract('Redis', () => redisApiKeyStore(server.client()));

  async function evalCalls(): Promise<number> {
    const stats = await redis.info('commandstats');
    return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1] ?? 0);
  }

  async function listeners(): Promise<number> {
    return Number((await redis.pubsub('NUMSUB', 'ak:changes'))[1]);
  }

  it('is asked in one round trip on a cache miss, and not at all on a hit', async () => {
    const store = { ...redisApiKeyStore(redis), touch: async () => false };
    const { keys } = service(redis, { store });
    const { key } = await keys.create({ owner: 'a', scopes: [] });
    await keys.verify((await keys.create({ owner: 'a', scopes: [] })).key);
    // What is cached before the store's messages are heard is flushed once they are.
    await expect.poll(listeners).toBeGreaterThan(0);
    const before = await evalCalls();
    expect((await keys.verify(key)).status).toBe('valid');
    expect(await evalCalls()).toBe(before + 1);
    expect((await keys.verify(key)).status).toBe('valid');
    expect(await evalCalls()).toBe(before + 1);
    await store.close();
  });

  it('never sees a key or its secret', async () => {
    const monitor = await server.client().monitor();
    const sent: string[] = [];
    monitor.on('monitor', (_time, args: string[]) => sent.push(args.join(' ')));
    const { keys, store } = service(redis, { audit: true });
    const { key, record } = await keys.create({ owner: 'secrecy', scopes: [] });
    await keys.verify(key);
    await keys.verify(key, { scopes: ['x'] });
    const next = await keys.rotate(record.id, { overlapSeconds: 60 });
    await keys.revoke(record.id, { reason: 'lost' });
    await keys.verify(next.key);
    await keys.close();
    await redis.echo('done');
    await expect.poll(() => sent.at(-1)).toBe('echo done');
    monitor.disconnect();
    await store.close();
    const text = sent.join('\n');
    expect(text).toContain('secrecy');
    for (const secret of [key, next.key].map((whole) => whole.slice(24, 56))) {
      for (let from = 0; from <= 24; from += 4)
        expect(text).not.toContain(secret.slice(from, from + 8));
    }
  });

  it('keeps records as long as they matter: expiry and retention, legacy ones for good', async () => {
    const { keys } = service(redis, { legacy: () => ({}) });
    const slot = (id: string) => `ak:k:${id.slice(0, 8)}{${id.slice(8)}}`;
    const { record } = await keys.create({ owner: 'a', scopes: [], expiresInDays: 10 });
    const days = async (id: string) => Math.round((await redis.pttl(slot(id))) / DAY_MS);
    expect(await days(record.id)).toBe(40);
    const next = await keys.rotate(record.id, { overlapSeconds: 86_400 });
    expect(await days(record.id)).toBe(31);
    expect(await days(next.record.id)).toBe(40);
    const legacy = await keys.importHash({ owner: 'a', scopes: [], sha256: 'a'.repeat(64) });
    expect(await redis.pttl(slot(legacy.id))).toBe(-1);
    await keys.close();
  });

  it('can lose its indexes and have them back', async () => {
    const { keys, store } = service(redis);
    const owner = 'repaired';
    const made = await Promise.all(
      [1, 2, 3].map((days) => keys.create({ owner, scopes: [], expiresInDays: days })),
    );
    const indexes = [...(await redis.keys('ak:o:*')), ...(await redis.keys('ak:e:*'))];
    await redis.del(...indexes);
    expect((await keys.list({ owner })).records).toEqual([]);
    expect(await store.repairIndexes()).toBeGreaterThanOrEqual(3);
    expect((await keys.list({ owner })).records.map(({ id }) => id).toSorted()).toEqual(
      made.map(({ record }) => record.id).toSorted(),
    );
    const due = await keys.dueForRotation({ withinDays: 4, limit: 1000 });
    for (const { record } of made) expect(due.records.map(({ id }) => id)).toContain(record.id);
  });

  it('repairs what it can before it says which record it cannot read', async () => {
    const own = { prefix: 'spoilt:' };
    const store = redisApiKeyStore(redis, own);
    const { keys } = service(redis, { store });
    const { id } = (await keys.create({ owner: 'a', scopes: [] })).record;
    await Promise.all(Array.from({ length: 49 }, () => keys.create({ owner: 'a', scopes: [] })));
    await redis.hdel(`spoilt:k:${id.slice(0, 8)}{${id.slice(8)}}`, 'c');
    await redis.del('spoilt:o:a');
    await expect(store.repairIndexes()).rejects.toMatchObject({
      code: 'ERR_API_KEYS_CORRUPT_RECORD',
      message: expect.stringContaining(id),
    });
    expect(await redis.zcard('spoilt:o:a')).toBe(49);
  });

  it('works, and repairs, under a key prefix of the client', async () => {
    const client = server.client({ keyPrefix: 'team[1]:' });
    const { keys, store } = service(client);
    const { key, record } = await keys.create({ owner: 'prefixed', scopes: [] });
    expect((await keys.verify(key)).status).toBe('valid');
    expect(await redis.exists(`team[1]:ak:k:${record.id.slice(0, 8)}{${record.id.slice(8)}}`)).toBe(
      1,
    );
    await redis.del('team[1]:ak:o:prefixed');
    expect(await store.repairIndexes()).toBe(1);
    expect((await keys.list({ owner: 'prefixed' })).records).toHaveLength(1);
    const { store: listening } = service(client);
    const heard: unknown[] = [];
    const stop = listening.subscribe?.((change) => heard.push(change));
    await expect.poll(() => heard).toEqual(['all']);
    await keys.revoke(record.id, { reason: 'lost' });
    await expect.poll(() => heard).toContainEqual({ id: record.id });
    stop?.();
    await keys.close();
  });

  it('forgets index entries whose record was never written, once that is certain', async () => {
    const { keys, clock } = service(redis);
    const { record } = await keys.create({ owner: 'abandoned', scopes: [] });
    await redis.del(`ak:k:${record.id.slice(0, 8)}{${record.id.slice(8)}}`);
    expect(await keys.list({ owner: 'abandoned' })).toEqual({ records: [] });
    expect(await redis.zcard('ak:o:abandoned')).toBe(1);
    clock.ms += 3_600_001;
    await keys.list({ owner: 'abandoned' });
    expect(await redis.zcard('ak:o:abandoned')).toBe(0);
  });

  it('lets no cursor lead outside of what is asked for', async () => {
    const { keys, clock } = service(redis);
    const past = service(redis);
    past.clock.ms -= 30 * DAY_MS;
    const old = await past.keys.create({ owner: 'paged', scopes: [], expiresInDays: 20 });
    const begins = clock.ms.toString(36).padStart(9, '0');
    for (const cursor of ['', '!', '-zzzzzzzz', 'zzzzzzzzzz!', '\u0000', 7 as never]) {
      const refused = { code: 'ERR_API_KEYS_INVALID' };
      await expect(keys.dueForRotation({ cursor })).rejects.toMatchObject(refused);
      await expect(keys.list({ owner: 'paged', cursor })).rejects.toMatchObject(refused);
    }
    const before = await evalCalls();
    const { records } = await keys.dueForRotation({ cursor: `000000000${old.record.id}` });
    expect(records.map(({ id }) => id)).not.toContain(old.record.id);
    // An index a day, from today on, and the records of each: not from 1970 on.
    expect((await evalCalls()) - before).toBeLessThan(50);
    expect((await keys.dueForRotation({ cursor: `${begins}x`, withinDays: 0 })).records).toEqual(
      [],
    );
  });

  it('makes verify answer unavailable for a record that it cannot read', async () => {
    const { keys } = service(redis);
    const { key, record } = await keys.create({ owner: 'a', scopes: [] });
    const name = `ak:k:${record.id.slice(0, 8)}{${record.id.slice(8)}}`;
    await redis.hset(name, 'v', '2');
    expect(await keys.verify(key)).toMatchObject({
      status: 'unavailable',
      error: { code: 'ERR_API_KEYS_CORRUPT_RECORD' },
    });
    await redis.hset(name, 'v', '1');
    // What it means must be certain: a restriction read as `null` would be none.
    for (const [field, value] of [
      ['g', 'null'],
      ['g', '{}'],
      ['g', '[1]'],
      ['l', 'null'],
      ['l', '[]'],
      ['j', '""'],
      ['x', 'soon'],
    ] as const) {
      await redis.hset(name, field, value);
      expect(await keys.verify(key), `${field} ${value}`).toMatchObject({
        status: 'unavailable',
        error: { code: 'ERR_API_KEYS_CORRUPT_RECORD' },
      });
      await redis.hdel(name, field);
    }
  });

  it('makes up for messages lost while nobody listened', async () => {
    const watching = redisApiKeyStore(server.client());
    const { keys } = service(redis, { store: watching });
    const there = service(redis);
    const { key, record } = await keys.create({ owner: 'a', scopes: [] });
    await keys.verify(key);
    await expect.poll(listeners).toBeGreaterThan(0);
    expect((await keys.verify(key)).status).toBe('valid');
    // The listener's connection is cut and the key revoked before it can be back. The clock stands still: no TTL helps.
    await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await there.keys.revoke(record.id, { reason: 'lost' });
    await expect.poll(async () => (await keys.verify(key)).status).toBe('revoked');
    // It listens again.
    const other = await keys.create({ owner: 'a', scopes: [] });
    await keys.verify(other.key);
    await expect.poll(listeners).toBeGreaterThan(0);
    await keys.verify(other.key);
    await there.keys.revoke(other.record.id, { reason: 'lost' });
    await expect.poll(async () => (await keys.verify(other.key)).status).toBe('revoked');
    await watching.close();
  });

  it('hears of changes whatever the options of the client are', async () => {
    const { keys } = service(redis);
    const { record } = await keys.create({ owner: 'a', scopes: [] });
    for (const options of [
      { enableOfflineQueue: false },
      { commandTimeout: 500 },
      { socketTimeout: 500 },
      { enableReadyCheck: false },
      { protocol: 2 as const },
    ]) {
      const watching = redisApiKeyStore(server.client(options));
      const heard: unknown[] = [];
      watching.subscribe?.((change) => heard.push(change));
      await expect.poll(() => heard.length, { message: JSON.stringify(options) }).toBe(1);
      await keys.revoke(record.id, { reason: 'lost' });
      await expect.poll(() => heard).toEqual(['all', { id: record.id }]);
      await watching.close();
    }
  });

  it('says so when it may not listen, and replaces no key when it may not tell of it', async () => {
    await redis.acl('SETUSER', 'mute', 'on', '>secret', '~*', '+@all', 'resetchannels');
    const { keys } = service(redis);
    const { key, record } = await keys.create({ owner: 'a', scopes: [] });
    const mute = service(server.client({ username: 'mute', password: 'secret' }));
    const { events, stop } = collect('store-error');
    expect((await mute.keys.verify(key)).status).toBe('valid');
    await expect
      .poll(() => events)
      .toContainEqual({
        operation: 'subscribe',
        error: expect.objectContaining({ message: expect.stringContaining('NOPERM') }),
      });
    stop();
    await expect(mute.keys.rotate(record.id, { overlapSeconds: 60 })).rejects.toMatchObject({
      code: 'ERR_STORE_FAILED',
    });
    await expect(
      mute.keys.importHash({ owner: 'a', scopes: [], sha256: 'b'.repeat(64) }),
    ).rejects.toMatchObject({ code: 'ERR_STORE_FAILED' });
    // Nothing was half done: the key has no successor that nobody holds, and both may be tried again.
    expect(await keys.get(record.id)).not.toHaveProperty('successorId');
    await keys.rotate(record.id, { overlapSeconds: 60 });
    await keys.importHash({ owner: 'a', scopes: [], sha256: 'b'.repeat(64) });
    // A revocation stands, whoever hears of it.
    await expect(mute.keys.revoke(record.id, { reason: 'lost' })).rejects.toMatchObject({
      code: 'ERR_STORE_FAILED',
    });
    expect(await keys.get(record.id)).toHaveProperty('revokedReason', 'lost');
    await mute.store.close();
  });

  it('bounds a revocation that nobody hears of by the TTL of the cache', async () => {
    const ttlMs = 500;
    const { subscribe: _, ...deaf } = redisApiKeyStore(redis);
    const { keys, clock } = service(redis, { store: deaf, cache: { ttlMs } });
    const { key, record } = await keys.create({ owner: 'a', scopes: [] });
    await keys.verify(key);
    await service(redis).keys.revoke(record.id, { reason: 'lost' });
    clock.ms += ttlMs - 1;
    expect((await keys.verify(key)).status).toBe('valid');
    clock.ms += 1;
    expect((await keys.verify(key)).status).toBe('revoked');
  });

  it('spreads every revocation to four processes, and none of them goes back', {
    timeout: 120_000,
  }, async () => {
    const { resurrected } = await spreadRevocations(server.url, service(redis).keys, 150);
    expect(resurrected).toEqual([]);
  });

  it('has written all that a rotation needs before the key is replaced: a successor made is a successor told', async () => {
    const { keys, clock } = service(redis);
    const { record } = await keys.create({ owner: 'a', scopes: [], expiresInDays: 80 });
    const day = new Date(clock.ms + 40 * DAY_MS).toISOString().slice(0, 10);
    await redis.set(`ak:e:${day}`, 'no index');
    const rotating = () => keys.rotate(record.id, { overlapSeconds: 40 * 86_400 });
    await expect(rotating()).rejects.toMatchObject({ code: 'ERR_STORE_FAILED' });
    expect(await keys.get(record.id)).toEqual(record);
    await redis.del(`ak:e:${day}`);
    await rotating();
    expect(await redis.zcard(`ak:e:${day}`)).toBe(1);
  });

  it('rotates once when four connections try at the same time', async () => {
    const managers = Array.from({ length: 4 }, () => service(server.client()).keys);
    const [first] = managers as [(typeof managers)[number]];
    for (let round = 0; round < 20; round += 1) {
      const { record } = await first.create({ owner: 'a', scopes: [] });
      const outcomes = await Promise.allSettled(
        managers.map((keys) => keys.rotate(record.id, { overlapSeconds: 60 })),
      );
      const winners = outcomes.filter(({ status }) => status === 'fulfilled');
      expect(winners).toHaveLength(1);
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected')
          expect(outcome.reason).toMatchObject({ code: 'ERR_API_KEYS_ALREADY_ROTATED' });
      }
    }
  });

  it('being down means 503, not 401; what was verified a moment ago passes while it is only silent; and all is well afterwards', async () => {
    const client = server.client();
    const heard = await listeners();
    const { store, finds } = counted(redisApiKeyStore(client, { timeoutMs: 500 }));
    const { keys } = service(client, { store });
    const known = await keys.create({ owner: 'a', scopes: [] });
    const lost = await keys.create({ owner: 'a', scopes: [] });
    const other = await keys.create({ owner: 'a', scopes: [] });
    const guard = apiKeyGuard(keys);
    const call = (key: string) => guard(guardRequest([['Authorization', `ApiKey ${key}`]]), {});
    expect((await call(known.key)).pass).toBe(true);
    await expect.poll(listeners).toBeGreaterThan(heard);
    for (const { key } of [known, lost]) expect((await call(key)).pass).toBe(true);
    const asked = finds();
    server.pause();
    expect((await call(known.key)).pass).toBe(true);
    expect(finds()).toBe(asked);
    expect(await call(other.key)).toMatchObject({ pass: false, status: 503 });
    expect((await call(known.key)).pass).toBe(true);
    // A revocation that failed still empties this process's cache.
    await expect(keys.revoke(lost.record.id, { reason: 'lost' })).rejects.toMatchObject({
      name: 'StoreUnavailableError',
    });
    expect(await call(lost.key)).toMatchObject({ pass: false, status: 503 });
    server.resume();
    // A connection that ends empties the cache: revocations are not heard any more.
    await server.kill();
    await expect.poll(() => call(known.key)).toMatchObject({ pass: false, status: 503 });
    expect(await call(other.key)).toMatchObject({ pass: false, status: 503 });
    expect(await call('junk')).toMatchObject({ pass: false, status: 401 });
    await expect(keys.create({ owner: 'a', scopes: [] })).rejects.toMatchObject({
      name: 'StoreUnavailableError',
    });
    await server.restart();
    await expect.poll(async () => (await keys.verify(other.key)).status).toBe('valid');
    expect((await call(known.key)).pass).toBe(true);
    await keys.close();
  });
});

describe('Redis Cluster', () => {
  let cluster: RedisClusterServers;
  beforeAll(async () => {
    cluster = await startRedisCluster();
  });
  afterAll(() => cluster.stop());

  apiKeyStoreContract('Redis Cluster', () => redisApiKeyStore(cluster.client()));

  it('passes revocations from any node to all, and repairs the indexes of all', async () => {
    const [here, there] = [cluster.client(), cluster.client()].map((client) => {
      const store = redisApiKeyStore(client);
      return {
        store,
        keys: createApiKeys({ store, peppers: [PEPPER_1], now: () => Date.UTC(2026, 5) }),
      };
    }) as [
      { store: ReturnType<typeof redisApiKeyStore>; keys: ReturnType<typeof createApiKeys> },
      { store: ReturnType<typeof redisApiKeyStore>; keys: ReturnType<typeof createApiKeys> },
    ];
    const created = await Promise.all(
      Array.from({ length: 12 }, () => here.keys.create({ owner: 'clustered', scopes: [] })),
    );
    for (const { key, record } of created) {
      expect((await here.keys.verify(key)).status).toBe('valid');
      await there.keys.revoke(record.id, { reason: 'lost' });
      await expect.poll(async () => (await here.keys.verify(key)).status).toBe('revoked');
    }
    const client = cluster.client();
    await Promise.all(['ak:o:clustered'].map((key) => client.del(key)));
    expect((await here.keys.list({ owner: 'clustered' })).records).toEqual([]);
    await here.store.repairIndexes();
    expect((await here.keys.list({ owner: 'clustered' })).records).toHaveLength(12);
    await Promise.all([here.store.close(), there.store.close()]);
    // Also for a client that knows no node yet.
    for (const lazyConnect of [false, true])
      expect(
        await redisApiKeyStore(cluster.client({ lazyConnect })).repairIndexes(),
      ).toBeGreaterThanOrEqual(12);
  });
});

it('refuses what is no client of ioredis when it is made', () => {
  for (const none of [undefined, 'redis://127.0.0.1', { host: '127.0.0.1' }]) {
    expect(() => redisApiKeyStore(none as never)).toThrow(
      'redis: expected a Redis or Cluster of ioredis',
    );
  }
});

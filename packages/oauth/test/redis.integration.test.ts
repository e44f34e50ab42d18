import { randomBytes } from 'node:crypto';
import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { redisTokenStore } from '../src/redis.ts';
import { tokenStoreContract } from './store.contract.ts';

const key = randomBytes(32);
let server: RedisServer;
let redis: Redis;
beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterAll(() => server.stop());
beforeEach(() => redis.flushall());

const PREFIX = 'oauth:';

/** Time in Redis cannot be moved; the times written down in it can. */
async function rewind(ms: number): Promise<void> {
  for (const name of await redis.keys(`${PREFIX}*`)) {
    for (const field of ['x', 'lu', 'ia', 'ru']) {
      if (await redis.hexists(name, field)) await redis.hincrby(name, field, -ms);
    }
    const left = (await redis.pttl(name)) - ms;
    if (left > 0) await redis.pexpire(name, left);
    else await redis.del(name);
  }
}

tokenStoreContract('Redis', () => ({
  store: redisTokenStore(redis, { encryptionKeys: [key] }),
  other: redisTokenStore(server.client(), { encryptionKeys: [key] }),
  advance: rewind,
}));

describe('on Cluster', () => {
  let cluster: RedisClusterServers;
  beforeAll(async () => {
    cluster = await startRedisCluster();
  });
  afterAll(() => cluster.stop());

  it('keeps each token in one slot, wherever that is', async () => {
    const store = redisTokenStore(cluster.client(), { encryptionKeys: [key], timeoutMs: 10_000 });
    const other = redisTokenStore(cluster.client(), { encryptionKeys: [key], timeoutMs: 10_000 });
    const names = Array.from({ length: 50 }, (_, index) => `token-${index}`);
    const claims = await Promise.all(
      names.flatMap((name) =>
        ['a', 'b'].map((owner) =>
          (owner === 'a' ? store : other).claim(name, { owner, leaseMs: 60_000, generation: 0 }),
        ),
      ),
    );
    expect(claims.filter(({ status }) => status === 'claimed')).toHaveLength(50);
    for (const [index, name] of names.entries()) {
      const owner = claims[index * 2]?.status === 'claimed' ? 'a' : 'b';
      await store.complete(name, { owner, value: name, ttlMs: 60_000, generation: 0 });
      const found = await other.claim(name, { owner: 'c', leaseMs: 1000, generation: 0 });
      expect(found).toMatchObject({ status: 'current', value: name });
    }
  });
});

describe('redisTokenStore', () => {
  const claim = { owner: 'a', leaseMs: 1000, generation: 0 };
  const completion = { owner: 'a', value: 'the-secret-token', ttlMs: 10_000, generation: 0 };

  it('never shows a token, and never leaves a key without an end', async () => {
    const store = redisTokenStore(redis, { encryptionKeys: [key] });
    await store.claim('k', { ...claim, journal: true });
    expect(await redis.pttl('oauth:k')).toBeGreaterThan(0);
    await store.complete('k', completion);
    const dump = JSON.stringify(await redis.hgetall('oauth:k'));
    expect(dump).not.toContain('the-secret-token');
    expect(dump).not.toContain(Buffer.from('the-secret-token').toString('base64url').slice(0, 12));
    expect(await redis.pttl('oauth:k')).toBeLessThanOrEqual(10_000);
    expect(await redis.pttl('oauth:k')).toBeGreaterThan(0);
  });

  it('opens what an older key closed, and not what a strange one did', async () => {
    const [older, newer] = [randomBytes(32), randomBytes(32)];
    const store = (...encryptionKeys: Buffer[]) => redisTokenStore(redis, { encryptionKeys });
    await store(older).claim('k', claim);
    await store(older).complete('k', completion);
    expect(await store(newer, older).claim('k', claim)).toMatchObject({
      value: 'the-secret-token',
    });
    // What can be had anew is replaced; what cannot is left alone.
    expect(await store(newer).claim('k', claim)).toEqual({ status: 'claimed', generation: 1 });
    await expect(
      store(newer).claim('k', { ...claim, owner: 'b', journal: true }),
    ).rejects.toMatchObject({ code: 'ERR_OAUTH_STORE' });
  });

  it('does not open a value under another name', async () => {
    const store = redisTokenStore(redis, { encryptionKeys: [key] });
    await store.claim('k', claim);
    await store.complete('k', completion);
    await redis.copy('oauth:k', 'oauth:stolen');
    expect(await store.claim('stolen', claim)).toEqual({ status: 'claimed', generation: 1 });
  });

  it('claims nothing while the key that closes cannot be got', async () => {
    const away = () => Promise.reject(new Error('no vault'));
    const store = redisTokenStore(redis, { encryptionKeys: [away] });
    const unavailable = { code: 'ERR_SEAL_KEY_UNAVAILABLE' };
    await expect(store.claim('k', { ...claim, journal: true })).rejects.toMatchObject(unavailable);
    expect(await redis.exists('oauth:k')).toBe(0);
  });

  it('replaces nothing, and leaves no intent, while a key that may open it cannot be got', async () => {
    const older = randomBytes(32);
    const store = redisTokenStore(redis, { encryptionKeys: [older] });
    await store.claim('k', claim);
    await store.complete('k', completion);
    let vault = () => Promise.reject<Buffer>(new Error('no vault'));
    const later = redisTokenStore(redis, { encryptionKeys: [key, () => vault()] });
    for (const request of [claim, { ...claim, generation: 1, journal: true }]) {
      await expect(later.claim('k', request)).rejects.toMatchObject({
        code: 'ERR_SEAL_KEY_UNAVAILABLE',
      });
      expect(await redis.hmget('oauth:k', 'l', 'i', 'g')).toEqual([null, null, '1']);
    }
    vault = async () => older;
    expect(await later.claim('k', claim)).toMatchObject({ value: 'the-secret-token' });
  });

  it('waits for a key no longer than for Redis', async () => {
    const never = () => new Promise<Buffer>(() => {});
    const late = { code: 'ERR_OAUTH_STORE' };
    const closing = redisTokenStore(redis, { encryptionKeys: [never], timeoutMs: 50 });
    await expect(closing.claim('k', { ...claim, journal: true })).rejects.toMatchObject(late);
    expect(await redis.exists('oauth:k')).toBe(0);
    const store = redisTokenStore(redis, { encryptionKeys: [randomBytes(32)] });
    await store.claim('k', claim);
    await store.complete('k', completion);
    const opening = redisTokenStore(redis, { encryptionKeys: [key, never], timeoutMs: 50 });
    await expect(opening.claim('k', claim)).rejects.toMatchObject(late);
  });

  it('refuses keys that are no keys', () => {
    expect(() => redisTokenStore(redis, { encryptionKeys: [] })).toThrow(TypeError);
    expect(() => redisTokenStore(redis, { encryptionKeys: [randomBytes(16)] })).toThrow(TypeError);
  });
});

it('refuses what is no client of ioredis when it is made', () => {
  for (const none of [undefined, 'redis://127.0.0.1', { host: '127.0.0.1' }]) {
    expect(() => redisTokenStore(none as never, { encryptionKeys: [key] })).toThrow(
      'redis: expected a Redis or Cluster of ioredis',
    );
  }
});

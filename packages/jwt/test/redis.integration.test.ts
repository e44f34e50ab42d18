import { type RedisServer, startRedis, startRedisCluster } from '@countersign/testkit/redis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDenylist } from '../src/index.ts';
import { redisDenylist, redisDpopReplayStore } from '../src/redis.ts';
import { claims, NOW, now } from './issuer.ts';
import { refusal } from './refusal.ts';
import { denylistStoreContract, dpopReplayStoreContract } from './store.contract.ts';

/** A bound against hanging: a busy machine may take its time. */
const timeoutMs = 10_000;

let server: RedisServer;

beforeAll(async () => {
  server = await startRedis();
});

afterAll(() => server.stop());

/** The clock of Redis cannot be set, but what it keeps can be brought nearer to its end. */
async function pass(ms: number): Promise<void> {
  const redis = server.client();
  for (const key of await redis.keys('*')) await redis.pexpire(key, (await redis.pttl(key)) - ms);
}

denylistStoreContract('redisDenylist', () => ({
  store: redisDenylist(server.client(), { timeoutMs }),
  pass,
}));
dpopReplayStoreContract('redisDpopReplayStore', () => ({
  store: redisDpopReplayStore(server.client(), { timeoutMs }),
  pass,
}));

describe('what is kept in Redis', () => {
  it('is what the documentation says', async () => {
    const redis = server.client();
    await redis.flushall();
    await redisDenylist(redis, { timeoutMs }).add('an-id', 60_000);
    await redisDpopReplayStore(redis, { prefix: 'mine:', timeoutMs }).claim('another', 60_000);
    expect((await redis.keys('*')).sort()).toEqual([
      'countersign:jwt:deny:an-id',
      'mine:dpop:another',
    ]);
    expect(await redis.get('countersign:jwt:deny:an-id')).toBe('1');
    expect(await redis.pttl('countersign:jwt:deny:an-id')).toBeGreaterThan(50_000);
    expect(await redis.pttl('mine:dpop:another')).toBeGreaterThan(50_000);
  });

  it('is seen by every process', async () => {
    const [one, two] = [server.client(), server.client()].map((redis) =>
      createDenylist({ store: redisDenylist(redis, { timeoutMs }), now }),
    );
    await one?.revoke({ iss: 'https://auth.example.com', jti: 'token-1', exp: NOW + 240 });
    expect(await two?.isRevoked(claims() as never)).toBe(true);
  });

  it('refuses tokens while Redis is gone', async () => {
    const gone = await startRedis();
    const denylist = createDenylist({ store: redisDenylist(gone.client(), { timeoutMs }), now });
    expect(await denylist.isRevoked(claims() as never)).toBe(false);
    await gone.stop();
    await expect(async () => denylist.isRevoked(claims() as never)).rejects.toThrow(
      refusal('ERR_JWT_DENYLIST_UNAVAILABLE'),
    );
  });
});

it('is one store for all processes on a Cluster, whatever slots the keys are in', async () => {
  const cluster = await startRedisCluster();
  try {
    const [one, two] = [cluster.client(), cluster.client()] as const;
    const proofs = [one, two].map((redis) => redisDpopReplayStore(redis, { timeoutMs }));
    const lists = [one, two].map((redis) => redisDenylist(redis, { timeoutMs }));
    const ids = Array.from({ length: 60 }, (_, index) => `id-${index}`);
    const claimed = await Promise.all(
      ids.flatMap((id) => proofs.map(async (store) => store.claim(id, 60_000))),
    );
    expect(claimed.filter((won) => won)).toHaveLength(ids.length);
    await Promise.all(ids.map(async (id, index) => lists[index % 2]?.add(id, 60_000)));
    const revoked = await Promise.all(
      ids.flatMap((id) => lists.map(async (store) => store.has(id))),
    );
    expect(revoked.every((answer) => answer)).toBe(true);
    expect(await lists[0]?.has('another')).toBe(false);
  } finally {
    await cluster.stop();
  }
});

it('refuses what is no client of ioredis when it is made', () => {
  for (const none of [undefined, 'redis://127.0.0.1', { host: '127.0.0.1' }]) {
    expect(() => redisDenylist(none as never)).toThrow(
      'redis: expected a Redis or Cluster of ioredis',
    );
    expect(() => redisDpopReplayStore(none as never)).toThrow(
      'redis: expected a Redis or Cluster of ioredis',
    );
  }
});

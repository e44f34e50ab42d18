import { type RedisServer, startRedis } from '@countersign/testkit/redis';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createPayloads, type Payloads } from '../src/bullmq/payloads.ts';

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
beforeEach(async () => {
  await redis.flushall();
});
afterAll(async () => {
  await server.stop();
});

function payloads(historyMs = 0): Payloads {
  const options = { prefix: 'webhooks', keepMs: 60_000, historyMs, vault: undefined };
  return createPayloads(redis, { ...options, timeoutMs: 5000 });
}

function event(id: string) {
  return { id, type: undefined, contentType: 'application/json', body: Buffer.from(`"${id}"`) };
}

test('keeps a payload until the last delivery has released it', async () => {
  const kept = payloads();
  await kept.put(event('a'), 2);
  await kept.release('a', 1);
  expect((await payloads().get('a'))?.body.toString()).toBe('"a"');
  await kept.release('a', 1);
  expect(await redis.keys('*')).toEqual([]);
});

test('keeps it for the history after that', async () => {
  const kept = payloads(5000);
  await kept.put(event('a'), 1);
  await kept.release('a', 1);
  // Once too often, after a failover that forgot a reference, say.
  await kept.release('a', 1);
  expect((await payloads().get('a'))?.body.toString()).toBe('"a"');
  expect(await redis.pttl('webhooks:payload:{a}')).toBeGreaterThan(0);
  expect(await redis.pttl('webhooks:payload:{a}')).toBeLessThanOrEqual(5000);
});

test('releasing one that is gone leaves nothing, whatever the history', async () => {
  await payloads(0).release('gone', 1);
  await payloads(5000).release('gone', 1);
  expect(await redis.keys('*')).toEqual([]);
});

test('a key that holds something else fails its own call, not those that travel with it', async () => {
  const kept = payloads();
  await kept.put(event('a'), 1);
  await redis.set('webhooks:payload:{b}', 'something else');
  const fresh = payloads();
  const [a, b] = await Promise.allSettled([fresh.get('a'), fresh.get('b')]);
  expect(a).toMatchObject({ status: 'fulfilled', value: { id: 'a' } });
  expect(b).toMatchObject({ status: 'rejected', reason: { message: /WRONGTYPE/ } });
  const released = await Promise.allSettled([fresh.release('b', 1), fresh.release('a', 1)]);
  expect(released.map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
  expect(await redis.keys('*')).toEqual(['webhooks:payload:{b}']);
});

import { type RedisServer, startRedis } from '@countersign/testkit/redis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { record } from '../src/expectations.ts';
import { runScenario } from '../src/scenario.ts';
import { startSystem } from '../src/system.ts';

let redis: RedisServer;

beforeAll(async () => {
  redis = await startRedis();
});

afterAll(async () => {
  await redis.stop();
});

// In memory it runs in `main.integration.test.ts`, as `npm run demo` runs it.
test('two instances of payments that share Redis do their job, beside another demo on the same Redis', async () => {
  const [system, other] = [await startSystem(redis.url), await startSystem(redis.url)];
  try {
    await fetch(`${other.checkout.url}/orders`, { method: 'POST' });
    const notes = record(() => undefined);
    await runScenario(system, notes);
    expect(notes.expectations.length).toBeGreaterThan(20);
    expect(notes.expectations.filter(({ held }) => !held)).toEqual([]);
    // The order's, and the partner's.
    expect(await system.instances[1]?.ask('payments')).toBe(2);
    expect(await other.instances[1]?.ask('payments')).toBe(1);
  } finally {
    await Promise.all([system.stop(), other.stop()]);
  }
  const client = redis.client();
  const keys = await client.keys('*');
  expect(keys.filter((key) => !/^demo:[0-9a-f]{8}:/.test(key))).toEqual([]);
  const lasting = await Promise.all(keys.map(async (key) => (await client.ttl(key)) < 0 && key));
  expect(lasting.filter(Boolean)).toEqual([]);
});

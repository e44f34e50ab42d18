import { type RedisServer, startRedis } from '@countersign/testkit/redis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { record } from '../src/expectations.ts';
import { runScenario } from '../src/scenario.ts';
import { openStores } from '../src/stores.ts';
import { startSystem } from '../src/system.ts';

let redis: RedisServer;

beforeAll(async () => {
  redis = await startRedis();
});

afterAll(async () => {
  await redis.stop();
});

// In memory it runs in `main.integration.test.ts`, as `npm run demo` runs it.
// Seven processes start; on a machine that is busy with something else that takes its time.
test('two instances of payments that share Redis do their job', { timeout: 240_000 }, async () => {
  const system = await startSystem(redis.url);
  try {
    const notes = record(() => undefined);
    await runScenario(system, notes);
    expect(notes.expectations.length).toBeGreaterThan(20);
    expect(notes.expectations.filter(({ held }) => !held)).toEqual([]);
  } finally {
    await system.stop();
  }
  const client = redis.client();
  const keys = await client.keys('*');
  const prefixes = new Set(keys.map((key) => /^demo:[0-9a-f]{8}:/.exec(key)?.[0]));
  expect([...prefixes]).toEqual([expect.any(String)]);
  const lasting = await Promise.all(keys.map(async (key) => (await client.ttl(key)) < 0 && key));
  expect(lasting.filter(Boolean)).toEqual([]);
});

test('demos on one Redis see nothing of each other', async () => {
  const { url } = redis;
  const one = await openStores({ url, keyPrefix: 'demo:one:' });
  const other = await openStores({ url, keyPrefix: 'demo:other:' });
  await one.ledger.pay({ id: 'pay_1', owner: 'service', amount: 1, currency: 'EUR' });
  expect([await one.ledger.count(), await other.ledger.count()]).toEqual([1, 0]);
  await Promise.all([one.close(), other.close()]);
});

test('a Redis that cannot be used says why, and nothing of the password', async () => {
  const opening = openStores({ url: 'redis://user:secret-word@127.0.0.1:1', keyPrefix: 'demo:' });
  await expect(opening).rejects.toThrow(
    'Redis at 127.0.0.1:1 cannot be used: connect ECONNREFUSED',
  );
  await expect(opening).rejects.not.toThrow('secret-word');
});

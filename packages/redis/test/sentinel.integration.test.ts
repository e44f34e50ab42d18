import { type RedisSentinelServers, startRedisSentinel } from '@countersign/testkit/redis';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Script, script } from '../src/index.ts';

const increment: Script<[by: number], number> = script(
  `return redis.call('INCRBY', KEYS[1], ARGV[1])`,
  { keys: 1, timeoutMs: 10_000 },
);

let servers: RedisSentinelServers;
beforeEach(async () => {
  servers = await startRedisSentinel();
});
afterEach(() => servers.stop());

test('leaves a master that was demoted and finds the new one', async () => {
  const redis = servers.client();
  await increment(redis, ['k'], [1]);
  await servers.master.client().wait(1, 5000);
  await servers.failover();
  // The connection to the old master is still open: its first answer tells that it is a replica now.
  await increment(redis, ['k'], [1]).catch((error: unknown) =>
    expect(error).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', outcome: 'not-run' }),
  );
  await expect(increment(redis, ['k'], [1])).resolves.toBeGreaterThanOrEqual(2);
  await expect(servers.replica.client().get('k')).resolves.toMatch(/^[23]$/);
});

test('waits for the replica that takes over from a dead master, within the deadline of the call', async () => {
  const redis = servers.client();
  await increment(redis, ['k'], [1]);
  await servers.master.client().wait(1, 5000);
  await servers.master.kill();
  await increment(redis, ['k'], [1], { timeoutMs: 20 }).catch(() => undefined);
  await expect(increment(redis, ['k'], [1], { timeoutMs: 30_000 })).resolves.toBe(2);
});

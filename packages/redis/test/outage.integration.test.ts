import { type RedisClusterServers, startRedisCluster } from '@countersign/testkit/redis';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Script, script } from '../src/index.ts';

const increment: Script<[by: number], number> = script(
  `return redis.call('INCRBY', KEYS[1], ARGV[1])`,
  { keys: 1, timeoutMs: 20_000 },
);

let servers: RedisClusterServers;
beforeAll(async () => {
  servers = await startRedisCluster({ replicas: 1 });
});
afterAll(() => servers.stop());

test('a cluster that is down for longer than a few attempts is waited for, as long as the deadline allows', async () => {
  const cluster = servers.client();
  await increment(cluster, ['k'], [1]);
  const masters = servers.masters.map((server) => server.client());
  const refusals = async (): Promise<number> => {
    const stats = await Promise.all(masters.map((master) => master.info('errorstats')));
    return stats
      .map((text) => Number(/errorstat_CLUSTERDOWN:count=(\d+)/.exec(text)?.[1] ?? 0))
      .reduce((sum, count) => sum + count);
  };
  // A slot that nobody has stops them all (`cluster-require-full-coverage`).
  const lost = 16_383;
  const nodes = [...masters, ...servers.replicas.map((server) => server.client())];
  await Promise.all(nodes.map((node) => node.call('CLUSTER', 'DELSLOTS', lost)));
  await expect(increment(cluster, ['k'], [1], { timeoutMs: 300 })).rejects.toMatchObject({
    code: 'ERR_STORE_UNAVAILABLE',
    outcome: 'not-run',
    message: /CLUSTERDOWN/,
  });
  const before = await refusals();
  const waiting = increment(cluster, ['k'], [1]);
  await expect.poll(refusals, { timeout: 15_000 }).toBeGreaterThan(before + 17);
  await masters.at(-1)?.call('CLUSTER', 'ADDSLOTS', lost);
  await expect(waiting).resolves.toBe(2);
  // A replica that does not know it of its master yet would not take the slot over, in the next test.
  const info = (node: Redis): Promise<unknown> => node.call('CLUSTER', 'INFO');
  for (const node of nodes) {
    await expect.poll(() => info(node)).toContain('cluster_slots_assigned:16384');
  }
  cluster.disconnect();
});

test('when every node that the client knew is gone, those it was given at first tell who took over', async () => {
  const replicas = new Set(servers.replicas.map(({ host, port }) => `${host}:${port}`));
  let hidden = true;
  const cluster = servers.client({
    // Nothing listens there.
    natMap: (name) => (hidden && replicas.has(name) ? { host: '127.0.0.1', port: 1 } : null),
  });
  const keys = Array.from({ length: 60 }, (_, index) => `all:${index}`);
  await Promise.all(keys.map((key) => increment(cluster, [key], [1])));
  await Promise.all(servers.masters.map((server) => server.client().wait(1, 5000)));
  await Promise.all(servers.masters.map((server) => server.kill()));
  const pending = Promise.allSettled(keys.map((key) => increment(cluster, [key], [1])));
  await increment(cluster, ['all:0'], [1], { timeoutMs: 300 }).catch(() => undefined);
  hidden = false;
  for (const index of servers.masters.keys()) await servers.failover(index);
  const outcomes = await pending;
  const after = await Promise.all(keys.map((key) => increment(cluster, [key], [1])));
  for (const [index, outcome] of outcomes.entries()) {
    if (outcome.status === 'fulfilled') {
      expect([outcome.value, after[index]]).toEqual([2, 3]);
    } else {
      expect(outcome.reason).toMatchObject({ outcome: 'unknown' });
      expect([2, 3]).toContain(after[index]);
    }
  }
  cluster.disconnect();
});

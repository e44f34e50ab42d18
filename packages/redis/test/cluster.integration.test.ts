import { type RedisClusterServers, startRedisCluster } from '@countersign/testkit/redis';
import calculateSlot from 'cluster-key-slot';
import type { Cluster } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Script, script } from '../src/index.ts';

const increment: Script<[by: number], number> = script(
  `return redis.call('INCRBY', KEYS[1], ARGV[1])`,
  { keys: 1, timeoutMs: 10_000 },
);
const move: Script<[], number> = script(`return redis.call('RENAMENX', KEYS[1], KEYS[2])`, {
  keys: 2,
  timeoutMs: 10_000,
});

let servers: RedisClusterServers;
let cluster: Cluster;
beforeAll(async () => {
  servers = await startRedisCluster({ replicas: 1 });
});
afterAll(() => servers.stop());
beforeEach(() => {
  cluster = servers.client();
});
afterEach(() => cluster.disconnect());

const keys = (count: number, prefix: string): string[] =>
  Array.from({ length: count }, (_, index) => `${prefix}:${index}`);

test('calls of a tick reach every node, and each is charged', async () => {
  const names = keys(200, 'spread');
  const replies = await Promise.all(
    [...names, ...names].map((key) => increment(cluster, [key], [1])),
  );
  expect(replies).toEqual([...names.map(() => 1), ...names.map(() => 2)]);
});

test('waits for a cluster that is still connecting, lazily or not', async () => {
  const lazy = servers.client({ lazyConnect: true });
  await expect(increment(lazy, ['lazy'], [1])).resolves.toBe(1);
});

test('keys of one call share a slot, or the call is refused before it is sent', async () => {
  await increment(cluster, ['{pair}a'], [7]);
  await expect(move(cluster, ['{pair}a', '{pair}b'], [])).resolves.toBe(1);
  await expect(move(cluster, ['a', 'b'], [])).rejects.toThrow(/hash tag/);
});

test('the key prefix counts for the slot', async () => {
  const prefixed = servers.client({ keyPrefix: '{p}:' });
  await move(prefixed, ['a', 'b'], []).catch((error: unknown) =>
    expect(error).toMatchObject({ code: 'ERR_STORE_FAILED', message: /no such key/ }),
  );
  await increment(prefixed, ['n'], [3]);
  await expect(cluster.get('{p}:n')).resolves.toBe('3');
});

test('is sent the script again after SCRIPT FLUSH on every node', async () => {
  const names = keys(30, 'flush');
  await Promise.all(names.map((key) => increment(cluster, [key], [1])));
  await Promise.all(cluster.nodes('master').map((node) => node.script('FLUSH')));
  const replies = await Promise.all(names.map((key) => increment(cluster, [key], [1])));
  expect(replies).toEqual(names.map(() => 2));
});

test('follows a slot that moves while it is used', async () => {
  const key = 'migrating';
  await increment(cluster, [key], [1]);
  const slot = calculateSlot(key);
  const from = cluster.slots[slot]?.[0];
  const to = cluster
    .nodes('master')
    .find((node) => `${node.options.host}:${node.options.port}` !== from);
  const source = cluster
    .nodes('master')
    .find((node) => `${node.options.host}:${node.options.port}` === from);
  if (!to || !source) throw new Error('expected two masters');
  const [sourceId, targetId] = (await Promise.all([
    source.cluster('MYID' as never),
    to.cluster('MYID' as never),
  ])) as unknown as [string, string];
  await to.cluster('SETSLOT', slot, 'IMPORTING', sourceId);
  await source.cluster('SETSLOT', slot, 'MIGRATING', targetId);
  await source.migrate(to.options.host as string, to.options.port as number, key, 0, 5000);
  // ASK: the key has left, the slot has not.
  await expect(increment(cluster, [key], [1])).resolves.toBe(2);
  await to.cluster('SETSLOT', slot, 'NODE', targetId);
  await source.cluster('SETSLOT', slot, 'NODE', targetId);
  // MOVED: the map of slots is out of date.
  await expect(increment(cluster, [key], [1])).resolves.toBe(3);
});

describe('a node', () => {
  test('that is paused times out its own calls and no others', async () => {
    const names = keys(60, 'paused');
    await Promise.all(names.map((key) => increment(cluster, [key], [1])));
    servers.masters[2]?.pause();
    const outcomes = await Promise.allSettled(
      names.map((key) => increment(cluster, [key], [1], { timeoutMs: 150 })),
    );
    servers.masters[2]?.resume();
    const address = `${servers.masters[2]?.host}:${servers.masters[2]?.port}`;
    for (const [index, outcome] of outcomes.entries()) {
      const paused = cluster.slots[calculateSlot(names[index] as string)]?.[0] === address;
      if (paused) {
        expect(outcome).toMatchObject({
          reason: { code: 'ERR_STORE_TIMEOUT', outcome: 'unknown' },
        });
      } else expect(outcome).toMatchObject({ value: 2 });
    }
  });

  test('that hands over to its replica is followed', async () => {
    const names = keys(60, 'handover');
    await Promise.all(names.map((key) => increment(cluster, [key], [1])));
    await servers.failover(0);
    const replies = await Promise.all(names.map((key) => increment(cluster, [key], [1])));
    expect(replies).toEqual(names.map(() => 2));
  });

  test('that is killed is replaced by its replica within the deadline of the calls', async () => {
    const names = keys(60, 'killed');
    await Promise.all(names.map((key) => increment(cluster, [key], [1])));
    // The replica has to have the writes before its master dies, or they are lost with it.
    await servers.masters[1]?.client().wait(1, 5000);
    await servers.masters[1]?.kill();
    const pending = names.map((key) => increment(cluster, [key], [1]));
    await servers.failover(1);
    const outcomes = await Promise.allSettled(pending);
    // The moment of the kill decides who was in flight; whoever was not is served by the new master.
    for (const outcome of outcomes) {
      if (outcome.status === 'fulfilled') expect(outcome.value).toBe(2);
      else
        expect(outcome.reason).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', outcome: 'unknown' });
    }
    const after = await Promise.all(names.map((key) => increment(cluster, [key], [1])));
    expect(after.every((value) => value === 2 || value === 3)).toBe(true);
  });
});

import { setImmediate as turn } from 'node:timers/promises';
import { type FaultProxy, startFaultProxy } from '@countersign/testkit/fault-proxy';
import {
  type RedisClusterServers,
  type RedisServer,
  startRedisCluster,
} from '@countersign/testkit/redis';
import calculateSlot from 'cluster-key-slot';
import type { Cluster } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { type Script, script } from '../src/index.ts';

const increment: Script<[by: number], number> = script(
  `return redis.call('INCRBY', KEYS[1], ARGV[1])`,
  { keys: 1, timeoutMs: 10_000 },
);
const both: Script<[], number> = script(
  `return redis.call('INCR', KEYS[1]) + redis.call('INCR', KEYS[2])`,
  { keys: 2, timeoutMs: 10_000 },
);

let servers: RedisClusterServers;
let spare: RedisServer;
let otherSpare: RedisServer;
let cluster: Cluster;
beforeAll(async () => {
  servers = await startRedisCluster({ spares: 2 });
  [spare, otherSpare] = servers.spares as [RedisServer, RedisServer];
});
afterAll(() => servers.stop());
beforeEach(() => {
  cluster = servers.client();
});
afterEach(() => {
  cluster.disconnect();
  vi.restoreAllMocks();
});

const keysOf = (tag: string, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `{${tag}}${index}`);

/** What deadlines go by, so that nobody has to wait for them. */
function time(): { pass(ms: number): void } {
  const real = performance.now.bind(performance);
  let passedMs = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => real() + passedMs);
  return {
    pass(ms) {
      passedMs += ms;
    },
  };
}

/** How often the master of a slot has refused so. */
function refusals(slot: number, kind: 'ASK' | 'TRYAGAIN'): () => Promise<number> {
  const source = servers.masters.find(({ port }) => cluster.slots[slot]?.[0]?.endsWith(`:${port}`));
  return async () => {
    const stats = String(await source?.client().info('errorstats'));
    return Number(new RegExp(`errorstat_${kind}:count=(\\d+)`).exec(stats)?.[1] ?? 0);
  };
}

const refresh = (client: Cluster): Promise<void> =>
  new Promise((resolve) => client.refreshSlotsCache(() => resolve()));

test('a node that has no slots yet, and does not know the script, runs what has moved to it', async () => {
  const [key] = keysOf('fresh', 1) as [string];
  await increment(cluster, [key], [1]);
  const migration = await servers.migration(calculateSlot(key), spare);
  await migration.move();
  await expect(increment(cluster, [key], [1])).resolves.toBe(2);
  await expect(increment(cluster, [key], [1])).resolves.toBe(3);
  await migration.finish();
  await expect(increment(cluster, [key], [1])).resolves.toBe(4);
  await expect(spare.client().get(key)).resolves.toBe('4');
});

test('calls that were made together are served one by one while some of their keys have moved and some have not', async () => {
  const keys = keysOf('parted', 20);
  await Promise.all(keys.map((key) => increment(cluster, [key], [1])));
  const migration = await servers.migration(calculateSlot(keys[0] as string), spare);
  await migration.move(...keys.slice(0, 10));
  const added = keysOf('parted', 25).slice(20);
  await expect(
    Promise.all([...keys, ...added].map((key) => increment(cluster, [key], [1]))),
  ).resolves.toEqual([...keys.map(() => 2), ...added.map(() => 1)]);
  await migration.move();
  await migration.finish();
  await expect(Promise.all(keys.map((key) => increment(cluster, [key], [1])))).resolves.toEqual(
    keys.map(() => 3),
  );
});

test('a call whose own keys are parted waits until they are together again', async () => {
  const [a, b] = keysOf('couple', 2) as [string, string];
  await both(cluster, [a, b], []);
  const slot = calculateSlot(a);
  const refused = refusals(slot, 'TRYAGAIN');
  const migration = await servers.migration(slot, spare);
  await migration.move(a);
  const { pass } = time();
  const before = await refused();
  const late = both(cluster, [a, b], []);
  await expect.poll(refused).toBeGreaterThan(before);
  pass(10_000);
  await expect(late).rejects.toMatchObject({
    code: 'ERR_STORE_UNAVAILABLE',
    outcome: 'not-run',
    message: /TRYAGAIN/,
  });
  const waiting = both(cluster, [a, b], []);
  await migration.move(b);
  await expect(waiting).resolves.toBe(4);
  await migration.finish();
});

test('no call is lost and none runs twice while a slot moves under load', async () => {
  const keys = keysOf('load', 60);
  const answered = new Map(keys.map((key) => [key, 0]));
  let moving = true;
  let total = 0;
  const worker = async (seed: number): Promise<void> => {
    for (let call = seed; moving; call += 1) {
      const calls = Array.from({ length: 1 + (call % 7) }, (_, index) => {
        const key = keys[(call * 31 + index * seed) % keys.length] as string;
        return increment(cluster, [key], [1]).then(() => key);
      });
      for (const key of await Promise.all(calls)) answered.set(key, (answered.get(key) ?? 0) + 1);
      total += calls.length;
      await turn();
    }
  };
  const workers = Promise.all([1, 2, 3, 5, 8, 13].map(worker));
  const migration = await servers.migration(calculateSlot(keys[0] as string), spare);
  for (const key of keys) {
    const before = total;
    await migration.move(key);
    while (total < before + 10) await turn();
  }
  await migration.move();
  await migration.finish();
  moving = false;
  await workers;
  const stored = await Promise.all(keys.map(async (key) => Number(await cluster.get(key))));
  expect(stored).toEqual([...answered.values()]);
});

test('a node that is away while it takes over a slot is waited for', async () => {
  const [key] = keysOf('away', 1) as [string];
  await increment(cluster, [key], [1]);
  const slot = calculateSlot(key);
  const named = refusals(slot, 'ASK');
  const migration = await servers.migration(slot, spare);
  await migration.move();
  await spare.kill();
  const { pass } = time();
  let before = await named();
  const late = increment(cluster, [key], [1]);
  await expect.poll(named).toBeGreaterThan(before);
  pass(10_000);
  await expect(late).rejects.toMatchObject({ outcome: 'not-run' });
  before = await named();
  const waiting = increment(cluster, [key], [1]);
  await expect.poll(named).toBeGreaterThan(before + 6);
  await spare.restart();
  // What it had in memory is gone.
  await expect(waiting).resolves.toBe(1);
  await migration.finish();
});

test('redirections name nodes by their own addresses, which the NAT map translates', async () => {
  const nodes = [...servers.masters, spare, otherSpare];
  const proxies: FaultProxy[] = await Promise.all(nodes.map((node) => startFaultProxy(node)));
  const behind = servers.client({
    natMap: Object.fromEntries(
      nodes.map(({ host, port }, index) => {
        const proxy = proxies[index] as FaultProxy;
        return [`${host}:${port}`, { host: proxy.host, port: proxy.port }];
      }),
    ),
  });
  const toSpare = proxies[4] as FaultProxy;
  const [key] = keysOf('nat', 1) as [string];
  await increment(behind, [key], [1]);
  const migration = await servers.migration(calculateSlot(key), otherSpare);
  await migration.move();
  const connectionsBefore = toSpare.accepted;
  for (let call = 2; call < 7; call += 1) {
    await expect(increment(behind, [key], [1])).resolves.toBe(call);
    // The map does not know the node; its connection is kept all the same while it is used.
    await refresh(behind);
    await refresh(behind);
  }
  expect(toSpare.accepted - connectionsBefore).toBe(1);
  // Until nobody has needed it for a while.
  const { pass } = time();
  pass(10_000);
  await refresh(behind);
  expect(toSpare.open).toBe(1);
  pass(10_000);
  await refresh(behind);
  await expect.poll(() => toSpare.open).toBe(0);
  await migration.finish();
  await expect(increment(behind, [key], [1])).resolves.toBe(7);
  behind.disconnect();
  await Promise.all(proxies.map((proxy) => proxy.stop()));
});

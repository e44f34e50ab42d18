import { setImmediate as turn } from 'node:timers/promises';
import { startFaultProxy } from '@countersign/testkit/fault-proxy';
import { type RedisServer, startRedis } from '@countersign/testkit/redis';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Script, type StoreUnavailableError, script } from '../src/index.ts';

const count: Script<[], number> = script(`return redis.call('INCR', KEYS[1])`, {
  keys: 1,
  timeoutMs: 2000,
});

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis({ persistence: 'aof' });
});
afterAll(() => server.stop());
beforeEach(() => server.client().flushall());

type Fate = 'ran' | StoreUnavailableError['outcome'];

/** Makes calls, each with a key of its own, alone and together, until `disturb` has done its work. */
async function fatesDuring(
  client: Redis,
  disturb: () => Promise<void>,
  timeoutMs = 2000,
): Promise<Map<string, Fate>> {
  const fates = new Map<string, Fate>();
  let disturbing = true;
  const worker = async (name: number): Promise<void> => {
    for (let round = 0; disturbing; round += 1) {
      const calls = Array.from({ length: 1 + ((round * name) % 20) }, async (_, index) => {
        const key = `${name}:${round}:${index}`;
        const fate = await count(client, [key], [], { timeoutMs }).then(
          () => 'ran' as const,
          ({ outcome }: StoreUnavailableError) => outcome,
        );
        fates.set(key, fate);
      });
      await Promise.all(calls);
      await turn();
    }
  };
  const workers = Promise.all([1, 2, 3, 5].map(worker));
  await disturb();
  disturbing = false;
  await workers;
  return fates;
}

/** What ran did so once, what did not run did not, and what is unknown did so once at most. */
async function expectTruth(fates: Map<string, Fate>): Promise<void> {
  const admin = server.client();
  const keys = [...fates.keys()];
  const values = await admin.mget(keys);
  const lies = keys.filter((key, index) => {
    const [fate, ran] = [fates.get(key), Number(values[index])];
    return fate === 'unknown' ? ran > 1 : ran !== (fate === 'ran' ? 1 : 0);
  });
  expect(lies.map((key) => [key, fates.get(key)])).toEqual([]);
}

test('scripts are flushed under load', async () => {
  const client = server.client();
  const admin = server.client();
  await count(client, ['warm'], []);
  const fates = await fatesDuring(client, async () => {
    for (let flush = 0; flush < 100; flush += 1) await admin.script('FLUSH');
  });
  expect(new Set(fates.values())).toEqual(new Set(['ran']));
  await expectTruth(fates);
});

test('connections are cut in the middle of requests and of replies', async () => {
  const proxy = await startFaultProxy(server);
  const client = server.client({ host: proxy.host, port: proxy.port });
  await count(client, ['warm'], []);
  const fates = await fatesDuring(client, async () => {
    for (let cut = 0; cut < 40; cut += 1) {
      const before = proxy.accepted;
      // At any byte, after the connection has been set up or before.
      const resetAfterBytes = 1 + ((cut * 397) % 4000);
      proxy.set(cut % 2 === 0 ? 'toServer' : 'toClient', { resetAfterBytes });
      await expect.poll(() => proxy.accepted, { interval: 1 }).toBeGreaterThan(before);
      await proxy.heal();
    }
  });
  expect(new Set(fates.values())).toEqual(new Set(['ran', 'unknown']));
  await expectTruth(fates);
  client.disconnect();
  await proxy.stop();
});

test('the server is killed with -9 and comes back', async () => {
  const client = server.client();
  await count(client, ['warm'], []);
  const fates = await fatesDuring(
    client,
    async () => {
      for (let kill = 0; kill < 5; kill += 1) {
        await count(client, [`alive:${kill}`], [], { timeoutMs: 10_000 });
        await server.restart();
      }
    },
    30,
  );
  expect(new Set(fates.values())).toEqual(new Set(['ran', 'unknown', 'not-run']));
  await expectTruth(fates);
});

test('the server stops answering for longer than the deadline, again and again', async () => {
  const client = server.client();
  await count(client, ['warm'], []);
  const fates = await fatesDuring(
    client,
    async () => {
      for (let stop = 0; stop < 5; stop += 1) {
        await count(client, [`alive:${stop}`], [], { timeoutMs: 10_000 });
        server.pause();
        await count(client, [`asleep:${stop}`], [], { timeoutMs: 60 }).catch(() => undefined);
        await count(client, [`still:${stop}`], [], { timeoutMs: 60 }).catch(() => undefined);
        server.resume();
      }
    },
    30,
  );
  expect(new Set(fates.values())).toEqual(new Set(['ran', 'unknown', 'not-run']));
  await expectTruth(fates);
});

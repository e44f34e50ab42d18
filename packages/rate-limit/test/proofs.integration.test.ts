import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import { type Cluster, Redis } from 'ioredis';
import { Agent, request } from 'undici';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  concurrency,
  createRateLimiter,
  defaultTiers,
  fixedWindow,
  type RateLimitError,
  type RateLimiter,
  slidingLog,
  slidingWindow,
  tokenBucket,
} from '../src/index.ts';
import { redisRateLimitStore } from '../src/redis.ts';
import { pace } from '../src/undici.ts';
import { type Contest, contests } from './contests.ts';

let server: RedisServer;
let redis: Redis;
beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterAll(() => server.stop());
beforeEach(() => redis.flushall());

const hour = [fixedWindow({ limit: 1000, windowSeconds: 31_622_400 })];

function limiterOn(client: Redis, options = {}): RateLimiter<'p'> {
  const store = redisRateLimitStore(client);
  return createRateLimiter({ store, policies: { p: hour }, timeoutMs: 10_000, ...options });
}

async function calls(command: string): Promise<number> {
  const stats = await redis.info('commandstats');
  return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
}

test('of 4 processes that make 5,000 concurrent checks each, and some of every kind, exactly the limit passes', async () => {
  const worker = new URL('./worker.ts', import.meta.url);
  const workers: ChildProcess[] = Array.from({ length: 4 }, () => fork(worker, [server.url]));
  const passed = (await Promise.all(workers.map(resultOf))) as number[][];
  const names = Object.keys(contests) as Contest[];
  const sums = names.map((name, index) => [
    name,
    passed.reduce((sum, counts) => sum + (counts[index] as number), 0),
  ]);
  expect(sums).toEqual(names.map((name) => [name, contests[name].passing]));
});

test('what one process is told by a server that it paces itself for holds for another process', async () => {
  let requests = 0;
  const upstream = createServer((_, response) => {
    requests += 1;
    response.writeHead(429, { 'retry-after': '30' }).end();
  }).listen(0, '127.0.0.1');
  await once(upstream, 'listening');
  const origin = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;
  const limiter = limiterOn(redis);
  const agent = new Agent().compose(pace(limiter));
  try {
    const { statusCode, body } = await request(origin, { dispatcher: agent });
    await body.dump();
    expect(statusCode).toBe(429);
    await expect.poll(async () => (await limiter.peek(origin)).allowed).toBe(false);
    const other = fork(new URL('./paced-worker.ts', import.meta.url), [server.url, origin]);
    const { code, retryAfterMs } = (await resultOf(other)) as RateLimitError;
    expect(code).toBe('ERR_RATE_LIMIT_WAIT');
    expect(retryAfterMs).toBeGreaterThan(20_000);
    expect(requests).toBe(1);
  } finally {
    await agent.close();
    upstream.close();
  }
});

async function resultOf(child: ChildProcess): Promise<unknown> {
  const ended = once(child, 'exit').then(() =>
    Promise.reject(new Error('it ended without a result')),
  );
  return (await Promise.race([once(child, 'message'), ended]))[0];
}

describe('what a check asks of Redis', () => {
  test('is one call of one script, whatever the number of limits', async () => {
    const limiter = createRateLimiter({
      store: redisRateLimitStore(redis),
      policies: defaultTiers,
      timeoutMs: 10_000,
    });
    await limiter.check('warm', { policy: 'free' });
    // Everything that clients send, but for what scripts do inside of Redis.
    const sent: string[] = [];
    const monitor = await redis.monitor();
    monitor.on('monitor', (_time: string, [command = '']: string[], source: string) => {
      if (source !== 'lua') sent.push(command.toLowerCase());
    });
    for (let count = 0; count < 10; count += 1) await limiter.check('s', { policy: 'free' });
    await redis.echo('over');
    await expect.poll(() => sent.at(-1)).toBe('echo');
    monitor.disconnect();
    expect(sent).toEqual([...Array<string>(10).fill('evalsha'), 'echo']);
  });

  test('is nothing once it was refused', async () => {
    const limiter = limiterOn(redis);
    await limiter.check('s', { cost: 1000 });
    await limiter.check('s');
    const before = await calls('evalsha');
    await Promise.all(Array.from({ length: 100 }, () => limiter.check('s')));
    expect(await calls('evalsha')).toBe(before);
  });
});

test('time is that of Redis, in whole microseconds, whatever a process takes it for', async () => {
  const limiter = createRateLimiter({
    store: redisRateLimitStore(redis),
    policies: { p: [tokenBucket({ capacity: 10, refillPerSecond: 0.01 })] },
    timeoutMs: 10_000,
  });
  const redisUs = async (): Promise<number> => {
    const [seconds, micros] = await redis.time();
    return Number(seconds) * 1e6 + Number(micros);
  };
  vi.useFakeTimers({ toFake: ['Date'], now: 0 });
  try {
    const before = await redisUs();
    for (let count = 0; count < 20; count += 1) await limiter.check('s');
    const record = await redis.getBuffer('rl:p:s');
    // Behind version, number of policies, kind and window: docs/storage/rate-limit.md.
    const moment = record?.readDoubleLE(11) ?? 0;
    expect(Number.isInteger(moment)).toBe(true);
    expect(moment).toBeGreaterThanOrEqual(before);
    expect(moment).toBeLessThanOrEqual(await redisUs());
  } finally {
    vi.useRealTimers();
  }
});

describe('what is left in Redis', () => {
  test('ends by itself, every key of it', async () => {
    const limiter = createRateLimiter({
      store: redisRateLimitStore(redis),
      policies: {
        window: [slidingWindow({ limit: 2, windowSeconds: 1 })],
        bucket: [tokenBucket({ capacity: 1, refillPerSecond: 1000 })],
        slow: [tokenBucket({ capacity: 10, refillPerSecond: 0.01 })],
      },
      timeoutMs: 10_000,
    });
    for (const policy of ['window', 'bucket', 'slow'] as const) {
      for (let index = 0; index < 50; index += 1) {
        await limiter.check(`s${index}`, { policy });
        await limiter.check(`s${index}`, { policy, cost: 1000 });
        await limiter.restrict(`s${index}`, { policy, remaining: 0, durationMs: 50 });
        // What is given back ends within a second, and would perhaps not be seen.
        if (policy !== 'slow') await limiter.refund(`s${index}`, { policy });
      }
    }
    let cursor = '0';
    let seen = 0;
    do {
      const [next, keys] = await redis.scan(cursor, 'COUNT', 100);
      cursor = next;
      for (const key of keys) {
        seen += 1;
        expect(await redis.pttl(key)).not.toBe(-1);
      }
    } while (cursor !== '0');
    expect(seen).toBeGreaterThanOrEqual(50);
  });

  test('is under 300 bytes for 10,000 an hour, and one key per subject', async () => {
    const limiter = createRateLimiter({
      store: redisRateLimitStore(redis),
      policies: { paid: defaultTiers.paid },
      timeoutMs: 10_000,
    });
    for (let turn = 0; turn < 20; turn += 1)
      await Promise.all(
        Array.from({ length: 15 }, () => limiter.check('user-1234567', { cost: 1 })),
      );
    const [key, ...others] = await redis.keys('*');
    expect(others).toEqual([]);
    expect(Number(await redis.memory('USAGE', key as string))).toBeLessThan(300);
  });

  test('does not grow with what is charged over the limit of a log', async () => {
    const limiter = createRateLimiter({
      store: redisRateLimitStore(redis),
      policies: { log: [slidingLog({ limit: 5, windowSeconds: 3600 })] },
      timeoutMs: 10_000,
    });
    for (let penalty = 0; penalty < 50; penalty += 1)
      await limiter.settle('s', { cost: 0, actualCost: penalty % 10 === 0 ? 1e9 : 1 });
    // docs/storage/rate-limit.md.
    expect(await redis.strlen('rl:log:s')).toBeLessThanOrEqual(39 + 12 * 10);
  });

  test('has no control characters and no long names in its keys', async () => {
    const limiter = limiterOn(redis);
    await limiter.check('x'.repeat(1e7));
    await limiter.check('a\r\nb\u0000');
    for (const key of await redis.keys('*')) expect(key).toMatch(/^[\x21-\x7e]{1,80}$/);
  });
});

describe('a shared store that has trouble', () => {
  test('SCRIPT FLUSH goes unnoticed, and nothing is charged twice', async () => {
    const limiter = limiterOn(redis);
    await limiter.check('s', { cost: 100 });
    await redis.script('FLUSH');
    expect(await limiter.check('s', { cost: 100 })).toMatchObject({
      source: 'store',
      remaining: 800,
    });
  });

  test('SCRIPT FLUSH again and again costs nobody anything', async () => {
    const limiter = limiterOn(redis);
    let flushing = true;
    const flushes = (async () => {
      while (flushing) await redis.script('FLUSH');
    })();
    let passed = 0;
    for (let round = 0; round < 60; round += 1) {
      const decisions = await Promise.all(
        Array.from({ length: 20 }, (_, index) => limiter.check(index % 2 === 0 ? 's' : `${round}`)),
      );
      expect(decisions.every(({ source }) => source !== 'degraded')).toBe(true);
      passed += decisions.filter(({ allowed }, index) => allowed && index % 2 === 0).length;
    }
    flushing = false;
    await flushes;
    expect(passed).toBe(600);
    expect((await limiter.peek('s')).remaining).toBe(400);
  });

  test('what cannot be read is the trouble of its own subject, not of those whose checks travel with it', async () => {
    const limiter = limiterOn(redis);
    const broken = ['', 'x', '\x02', '\x02\x01', '\x02\xff', '\x09\x01', '\x03\x01short'];
    await redis.lpush('rl:p:list', 'x');
    await Promise.all(
      broken.map((text, index) => redis.set(`rl:p:${index}`, Buffer.from(text, 'latin1'))),
    );
    const subjects = ['a', 'list', 'b', ...broken.map((_, index) => `${index}`), 'c'];
    const decisions = await Promise.all(subjects.map((subject) => limiter.check(subject)));
    const served = subjects.filter((_, index) => decisions[index]?.source === 'store');
    expect(served).toEqual(['a', 'b', 'c']);
    expect(decisions.filter(({ allowed }) => allowed)).toHaveLength(3);
    // Nobody is locked out for ever.
    await limiter.reset('list');
    expect((await limiter.check('list')).allowed).toBe(true);
  });

  test('out of memory: refused, and granted again when there is some', async () => {
    const limiter = limiterOn(redis);
    await limiter.check('s');
    await redis.config('SET', 'maxmemory', '1');
    const without = await Promise.all(
      Array.from({ length: 10 }, (_, index) => limiter.check(`${index}`)),
    );
    expect(without.every(({ allowed, source }) => !allowed && source === 'degraded')).toBe(true);
    await redis.config('SET', 'maxmemory', '0');
    expect(await limiter.check('s')).toMatchObject({ source: 'store', remaining: 998 });
  });

  test('restarted without its data: everything begins anew, and is counted again', async () => {
    const own = await startRedis();
    try {
      const limiter = limiterOn(own.client());
      await limiter.check('s', { cost: 1000 });
      expect((await limiter.check('s')).allowed).toBe(false);
      await limiter.refund('s');
      await own.restart();
      expect(await limiter.check('s', { cost: 1000 })).toMatchObject({
        source: 'store',
        allowed: true,
      });
      expect((await limiter.check('s')).allowed).toBe(false);
    } finally {
      await own.stop();
    }
  });

  test('killed: decided here within the time given; restarted: decided there again', async () => {
    const own = await startRedis({ persistence: 'aof' });
    try {
      const client = own.client();
      // Has time, on a busy machine too.
      const patient = limiterOn(client);
      const limiter = limiterOn(client, {
        timeoutMs: 100,
        onStoreError: 'local',
        replicas: 4,
      });
      await patient.check('s', { cost: 500 });
      await own.kill();
      const during = await Promise.all(Array.from({ length: 300 }, () => limiter.check('s')));
      expect(during.every(({ source }) => source === 'degraded')).toBe(true);
      expect(during.filter(({ allowed }) => allowed)).toHaveLength(250);
      await own.restart();
      await expect.poll(async () => (await limiter.check('s')).source).toBe('store');
      expect((await patient.peek('s')).remaining).toBeLessThan(500);
    } finally {
      await own.stop();
    }
  });

  test.each([
    ['open', true],
    ['closed', false],
    ['local', true],
  ] as const)(
    'never there, and a client that queues for ever: %s decides all the same',
    async (onStoreError, allowed) => {
      const own = await startRedis();
      await own.kill();
      // As most people make it: commands wait in a queue of its own, without any end.
      const client = new Redis(own.url, { maxRetriesPerRequest: null });
      client.on('error', () => {});
      try {
        const limiter = limiterOn(client, { timeoutMs: 50, onStoreError });
        const decisions = await Promise.all(Array.from({ length: 20 }, () => limiter.check('s')));
        expect(new Set(decisions.map((decision) => decision.source))).toEqual(
          new Set(['degraded']),
        );
        expect(new Set(decisions.map((decision) => decision.allowed))).toEqual(new Set([allowed]));
        await expect(limiter.peek('s')).rejects.toMatchObject({ code: 'ERR_RATE_LIMIT_STORE' });
      } finally {
        client.disconnect();
        await own.stop();
      }
    },
  );

  test('paused: no check hangs, and no slot stays taken', async () => {
    const own = await startRedis();
    try {
      const client = own.client();
      const limiter = limiterOn(client, { timeoutMs: 50 });
      const slots = createRateLimiter({
        store: redisRateLimitStore(client),
        policies: { slots: [concurrency({ limit: 3, leaseSeconds: 3600 })] },
        timeoutMs: 50,
      });
      await limiter.check('s');
      own.pause();
      await Promise.all([slots.check('s'), slots.check('s'), slots.check('s')]);
      const during = await Promise.all(Array.from({ length: 50 }, () => limiter.check('s')));
      expect(during.every(({ allowed, source }) => !allowed && source === 'degraded')).toBe(true);
      own.resume();
      await expect.poll(async () => (await limiter.check('s')).source).toBe('store');
      // They were taken when the server went on, and given back after it.
      await expect.poll(async () => (await slots.peek('s')).remaining).toBe(3);
    } finally {
      await own.stop();
    }
  });

  describe('a cluster', () => {
    let cluster: RedisClusterServers;
    beforeAll(async () => {
      cluster = await startRedisCluster({ replicas: 1 });
    });
    afterAll(() => cluster.stop());

    test('that moves a slot: exactly the limit passes meanwhile', async () => {
      const client = cluster.client();
      const store = redisRateLimitStore(client);
      const limits = [fixedWindow({ limit: 100, windowSeconds: 31_622_400 })];
      const limiter = createRateLimiter({ store, policies: { p: limits }, timeoutMs: 10_000 });
      // All in one slot.
      const subjects = Array.from({ length: 10 }, (_, index) => `{moving}${index}`);
      const passed = new Map<string, number>();
      let moving = true;
      const traffic = (async () => {
        for (let round = 0; moving || round < 60; round += 1) {
          // Who is refused is so without a turn of the event loop, and the slot would never move.
          await turn();
          const decisions = await Promise.all(
            subjects.flatMap((subject) => [limiter.check(subject), limiter.check(subject)]),
          );
          expect(decisions.filter(({ source }) => source === 'degraded')).toEqual([]);
          for (const [index, { allowed }] of decisions.entries()) {
            const subject = subjects[index >> 1] as string;
            if (allowed) passed.set(subject, (passed.get(subject) ?? 0) + 1);
          }
        }
      })();
      await expect.poll(() => passed.size).toBe(10);
      await moveSlot(client, 'rl:p:{moving}0');
      moving = false;
      await traffic;
      expect([...passed.values()]).toEqual(subjects.map(() => 100));
    });

    test('that fails over: counting goes on where the replica was', async () => {
      const store = redisRateLimitStore(cluster.client());
      const limiter = createRateLimiter({ store, policies: { p: hour }, timeoutMs: 10_000 });
      const subjects = Array.from({ length: 30 }, (_, index) => `s${index}`);
      await Promise.all(subjects.map((subject) => limiter.check(subject, { cost: 10 })));
      await Promise.all([0, 1, 2].map((index) => cluster.failover(index)));
      const after = await Promise.all(subjects.map((subject) => limiter.check(subject)));
      expect(after.map(({ remaining }) => remaining)).toEqual(subjects.map(() => 989));
    });
  });
});

/** Moves the slot of a key to another master, one key after the other. */
async function moveSlot(client: Cluster, key: string): Promise<void> {
  const masters = client.nodes('master');
  const slot = Number(await masters[0]?.call('CLUSTER', 'KEYSLOT', key));
  const address = ({ options }: Redis): string => `${options.host}:${options.port}`;
  const source = masters.find((node) => address(node) === client.slots[slot]?.[0]) as Redis;
  const target = masters.find((node) => node !== source) as Redis;
  const [sourceId, targetId] = (await Promise.all(
    [source, target].map((node) => node.call('CLUSTER', 'MYID')),
  )) as [string, string];
  await target.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', sourceId);
  await source.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', targetId);
  for (;;) {
    const [next] = (await source.call('CLUSTER', 'GETKEYSINSLOT', slot, 1)) as string[];
    if (next === undefined) break;
    const { host, port } = target.options;
    await source.call('MIGRATE', host as string, port as number, next, 0, 5000);
  }
  for (const node of masters) await node.call('CLUSTER', 'SETSLOT', slot, 'NODE', targetId);
}
